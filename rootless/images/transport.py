# SPDX-License-Identifier: Apache-2.0
"""One HTTP exchange at a time, with redirects, trust and limits under our own control.

Knows nothing of registries' paths or tokens. An Authorization header given for one origin never
reaches another one, cookies do not exist, and https never becomes http.
"""

from __future__ import annotations

import os
import ssl
import time
import urllib.request
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urljoin, urlsplit

import urllib3
import urllib3.exceptions

from rootless.errors import RegistryError
from rootless.images import failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rootless.images.patience import Cancellation, Patience

MAX_REDIRECTS = 10
CHUNK = 1 << 18
SENT_AT_ONCE = 1 << 16  # bytes that have to leave within one connect timeout
_REDIRECTS = (301, 302, 303, 307, 308)
Origin = tuple[str, str, int]
_WRONG_ADDRESS = "the registry answers with addresses it should not; tell its operator"


def origin(url: str) -> Origin:
    """Scheme, host and port of an http or https URL; raises RegistryError for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RegistryError(
            f"cannot follow {failures.clean(url)}: not a URL", hint=_WRONG_ADDRESS
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RegistryError(
            f"cannot follow {failures.clean(url)}: only http and https are fetched",
            hint=_WRONG_ADDRESS,
        )
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


class Stream(Protocol):
    """The bytes of a request, read once; its Content-Length is among the headers."""

    def read(self, size: int, /) -> bytes: ...


Body = bytes | Stream


class Response:
    """The answer to one request; read it to its end or close it."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str, transport: Transport) -> None:
        self._raw = raw
        self._transport = transport
        self.url = url
        self.status = raw.status
        self.headers = raw.headers
        transport.cancellation.watch(self)

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, undecoded.

        Raises what urllib3 and the sockets raise when it breaks off, and TimeoutError when less
        comes than `Patience.slowest` allows.
        """
        patience, cancellation = self._transport.patience, self._transport.cancellation
        since, counted = time.monotonic(), 0
        try:
            while chunk := self._raw.read1(CHUNK, decode_content=False):
                cancellation.check()
                yield chunk
                counted += len(chunk)
                if time.monotonic() - since > patience.idle:
                    if counted < patience.idle * patience.slowest:
                        raise TimeoutError("too slow")
                    since, counted = time.monotonic(), 0
            cancellation.check()  # a connection that was shut down looks like one that ended
        finally:
            self.close()

    def read(self, limit: int, what: str) -> bytes:
        """The whole body; raises RegistryError when it is longer than `limit` bytes or breaks off."""
        collected = bytearray()
        try:
            for chunk in self.chunks():
                collected += chunk
                if len(collected) > limit:
                    raise RegistryError(
                        f"cannot read {what}: the answer is larger than {limit} bytes",
                        hint="the registry answers with something that is not an image",
                    )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            host = urlsplit(self.url).netloc
            raise failures.interrupted(what, host, problem, len(collected), limit) from problem
        return bytes(collected)

    def error_body(self) -> bytes:
        """What can be had of the body of an error answer, at most MAX_ERROR_BODY bytes."""
        collected = bytearray()
        try:
            for chunk in self.chunks():
                collected += chunk
                if len(collected) > failures.MAX_ERROR_BODY:
                    break
        except (urllib3.exceptions.HTTPError, OSError):
            pass
        return bytes(collected[: failures.MAX_ERROR_BODY])

    def shutdown(self) -> None:
        """Wake a thread that waits for this body; safe to call from another one."""
        try:
            self._raw.shutdown()
        except (ValueError, RuntimeError, OSError):
            pass  # read to its end meanwhile

    def close(self) -> None:
        """Give the connection back if the body was read to its end, otherwise close it."""
        self._transport.cancellation.forget(self)
        self._raw.close() if not self._raw.closed else None
        self._raw.release_conn()


class Transport:
    """Connections for one registry and wherever it redirects to."""

    def __init__(
        self,
        host: str,
        patience: Patience,
        cancellation: Cancellation,
        *,
        verify: bool = True,
        environ: Mapping[str, str] = os.environ,
        host_settings: Mapping[str, Any] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """`host_settings` are what the configuration says of this host, `proxies` what it says of them."""
        self._host_settings = host_settings or {}
        self._proxies = proxies or {}
        self.host = host
        self.patience = patience
        self.cancellation = cancellation
        self._verify = verify
        self._environ = environ
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        authorization: str = "",
        form: Mapping[str, str] | None = None,
        body: Body | None = None,
        answer_within: float | None = None,
    ) -> Response:
        """Send a request and follow its redirects; any status is returned, not raised.

        `authorization` is sent to the origin of `url` only. A request with a `form` is not
        redirected, and one that writes only where its method and its bytes can go along.
        `answer_within` is the seconds until the answer begins, by default `Patience.idle`. Raises
        RegistryError for a redirect that is refused, and what urllib3 raises when there is no
        answer.
        """
        home = origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            self.cancellation.check()
            sent = {"Accept-Encoding": "identity", "User-Agent": "rootless", **headers}
            if authorization and origin(url) == home:
                sent["Authorization"] = authorization
            raw = self._send(method, url, sent, form, body, answer_within)
            response = Response(raw, url, self)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location or form is not None:
                return response
            if method not in ("GET", "HEAD") and not _may_resend(response.status, body):
                return response
            response.close()
            url = joined(url, location)
        raise RegistryError(
            f"cannot follow {self.host}: more than {MAX_REDIRECTS} redirects",
            hint="the registry is set up wrongly; tell its operator",
        )

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        body: Body | None,
        answer_within: float | None,
    ) -> urllib3.BaseHTTPResponse:
        patience = self.patience
        timeout = urllib3.Timeout(connect=patience.connect, read=answer_within or patience.idle)
        if form is not None:
            return self._pool(url).request(
                method, url, fields=form, encode_multipart=False, headers=headers, timeout=timeout,
                redirect=False, retries=False, preload_content=False,
            )  # fmt: skip
        return self._pool(url).request(
            method, url, body=cast("IO[bytes]", body), headers=headers, timeout=timeout,
            redirect=False, retries=False, preload_content=False,
        )  # fmt: skip

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The pool for an address: the registry's own trust is not lent to other hosts."""
        scheme = urlsplit(url).scheme
        at_home = urlsplit(url).netloc == self.host
        proxy = _proxy(url, self._proxies)
        key = (scheme + proxy, at_home)
        if key not in self._pools:
            context = self._trust(at_home) if scheme == "https" else None
            settings = {
                "num_pools": 4, "maxsize": 4, "ssl_context": context, "blocksize": SENT_AT_ONCE
            }  # fmt: skip
            self._pools[key] = (
                urllib3.ProxyManager(proxy, **settings)  # type: ignore[arg-type]
                if proxy
                else urllib3.PoolManager(**settings)  # type: ignore[arg-type]
            )
        return self._pools[key]

    def _trust(self, at_home: bool) -> ssl.SSLContext:
        if not self._verify:
            # Whoever asked for it knows; a warning for each connection would only hide others.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        if at_home:
            for directory in _certificate_directories(self.host, self._environ):
                _add_certificates(context, directory)
            _add_configured(context, self._host_settings)
        return context

    def close(self) -> None:
        """Close every idle connection."""
        for manager in self._pools.values():
            # Clearing alone leaves it to the garbage collector, which an exception's frames hold up.
            for key in manager.pools.keys():  # noqa: SIM118 (it cannot be iterated)
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
            manager.clear()


def _may_resend(status: int, body: Body | None) -> bool:
    """RFC 9110 §15.4.8: only 307 and 308 keep the method; a stream that was read is gone."""
    return status in (307, 308) and (body is None or isinstance(body, bytes))


def joined(url: str, location: str) -> str:
    """Where a Location header of the answer from `url` leads.

    Raises RegistryError for what is not followed: https never becomes http.
    """
    try:
        target = urljoin(url, location)
    except ValueError:
        target = location
    before, after = origin(url)[0], origin(target)[0]
    if before == "https" and after != "https":
        raise RegistryError(
            f"cannot follow {urlsplit(url).netloc}: it redirects from https to http",
            hint="the registry is set up wrongly; tell its operator",
        )
    return target


def is_this_machine(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1."""
    return host in ("localhost", "::1") or (
        host.startswith("127.") and host.replace(".", "").isdigit()
    )


def _proxy(url: str, configured: Mapping[str, str]) -> str:
    """The proxy for an address, or "": the environment's, else the configured one.

    This machine is never behind one.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_this_machine(host):
        return ""
    proxies = urllib.request.getproxies_environment() or dict(configured)
    proxy = proxies.get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
        return ""
    return proxy if "://" in proxy else "http://" + proxy


def _add_configured(context: ssl.SSLContext, settings: Mapping[str, Any]) -> None:
    """The authority and the client certificate that the configuration names."""
    path = ""
    try:
        if path := settings.get("ca", ""):
            context.load_verify_locations(cafile=path)
        if path := settings.get("client-cert", ""):
            context.load_cert_chain(path, settings.get("client-key") or None)
    except (OSError, ssl.SSLError) as problem:
        raise RegistryError(
            f"cannot use certificate {path}: {failures.clean(str(problem))}",
            hint="it must be PEM and readable by you; see registries.hosts in the configuration",
        ) from problem


def _certificate_directories(host: str, environ: Mapping[str, str]) -> list[str]:
    """Where docker and podman look for a registry's certificates (containers-certs.d(5))."""
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME", "") or (home + "/.config" if home else "")
    bases = [config + "/containers/certs.d"] if config else []
    bases += ["/etc/containers/certs.d", "/etc/docker/certs.d"]
    return [f"{base}/{host}" for base in bases]


def _add_certificates(context: ssl.SSLContext, directory: str) -> None:
    """*.crt are authorities; NAME.cert with NAME.key is what we show of ourselves."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        path = f"{directory}/{name}"
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(cafile=path)
            elif name.endswith(".cert"):
                context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
        except (OSError, ssl.SSLError) as problem:
            raise RegistryError(
                f"cannot use certificate {path}: {failures.clean(str(problem))}",
                hint="it must be PEM and readable by you",
            ) from problem
