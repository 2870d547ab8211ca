# SPDX-License-Identifier: Apache-2.0
"""A client of the registry protocol (OCI distribution-spec 1.1, docker registry v2).

Gives verified manifests and unverified streams of blobs (whoever stores them verifies them);
`images.upload` writes through it. Knows nothing of the store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3.exceptions

from rootless import configuration, log
from rootless.errors import DigestMismatch, RegistryError
from rootless.images import credentials, failures
from rootless.images.auth import Authorizer
from rootless.images.manifests import MAX_SIZE, Document
from rootless.images.patience import Cancellation, Patience
from rootless.images.transport import Response, Transport, is_this_machine, joined, origin
from rootless.oci import digest as digests
from rootless.oci import document, image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rootless.errors import RootlessError
    from rootless.images.credentials import Credentials
    from rootless.images.transport import Body
    from rootless.oci.digest import Digest

_TRANSIENT = (429, 500, 502, 503, 504)
_MAX_ROUNDS = 2  # answers to 401 within one request: a token, and a fresh one if that had expired
MAX_PAGES = 1000  # of a listing
_DOCKER_HUB = "registry-1.docker.io"


class Registry:
    """One registry, for one transfer. Threads may share it."""

    def __init__(
        self,
        domain: str,
        repository: str,
        *,
        verify_tls: bool = True,
        patience: Patience | None = None,
        cancellation: Cancellation | None = None,
        environ: Mapping[str, str] = os.environ,
        verb: str = "pull",
        login: Credentials | None = None,
    ) -> None:
        """`domain` and `repository` as a reference has them: docker.io, library/debian.

        Without `verify_tls`, and for this machine itself, certificates are not checked and http is
        taken when https is not spoken. `verb` is what errors say cannot be done; `login` are
        credentials to try in place of those that are saved.
        """
        self.verb = verb
        self._is_login = login is not None
        self.host = _DOCKER_HUB if domain == "docker.io" else domain
        self.repository = repository
        self.cancellation = cancellation or Cancellation()
        settings = configuration.load(environ)
        self.patience = patience or Patience(idle=settings.limit("idle-seconds", 60))
        self._max_manifest = settings.limit("manifest-size", MAX_SIZE)
        host = settings.host(domain)
        if host.get("blocked"):
            raise RegistryError(
                f"cannot {verb}: registry {domain} is blocked by the configuration",
                hint=f"registries.hosts.{domain}.blocked in {' or '.join(configuration.files(environ))}",
            )
        self._insecure = (
            not verify_tls
            or bool(host.get("insecure"))
            or is_this_machine(urlsplit("//" + domain).hostname or "")
        )
        self._transport = Transport(
            self.host,
            self.patience,
            self.cancellation,
            verify=not self._insecure,
            environ=environ,
            host_settings=host,
            proxies=settings.proxies,
        )
        self._find_credentials = lambda: login or credentials.lookup(domain, repository, environ)
        self._url = ""
        self._authorizer: Authorizer | None = None

    # -- what a pull asks for -------------------------------------------------------------------

    def manifest(self, wanted: str) -> Document:
        """The manifest or index called `wanted`, a tag or a digest.

        Raises RegistryError and its kinds, NotFound, and DigestMismatch when a digest was asked
        for and other bytes came.
        """
        what = f"{self.host}/{self.repository}{'@' if ':' in wanted else ':'}{wanted}"
        response = self._get(f"manifests/{wanted}", what, {"Accept": ", ".join(image.ACCEPTED)})
        told = response.headers.get("Docker-Content-Digest", "")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        body = response.read(self._max_manifest, f"the manifest of {what}")
        found = digests.of(body, wanted.partition(":")[0] if ":" in wanted else "sha256")
        if ":" in wanted and found != wanted:
            raise DigestMismatch(
                f"cannot pull {what}: the manifest has digest {found}",
                hint="the registry or something before it is broken; pull again later",
            )
        if told and told != found:
            log.warning("registry.wrong_digest_header", host=self.host, told=told[:100], is_=found)
        return Document(body, found, media_type)

    def tags(self) -> Iterator[str]:
        """Every tag of the repository, in the registry's order."""
        what = f"{self.host}/{self.repository}"
        return self.pages(f"/v2/{self.repository}/tags/list", "tags", what)

    def pages(self, path: str, key: str, what: str, scope: str | None = None) -> Iterator[str]:
        """The texts below `key` of a listing that may have several pages (RFC 8288 `Link`).

        Raises RegistryError and its kinds; a page that was seen before, or another registry's, ends
        it with one.
        """
        where, seen = path, set()
        for _ in range(MAX_PAGES):
            seen.add(where)
            response = self.ask("GET", where, what, scope=scope)
            if response.status != 200:
                raise self.refused(response, what)
            link = response.headers.get("Link", "")
            told = document.load_strict(
                response.read(self._max_manifest, f"a list of {what}"), what
            )
            names = told.get(key) if isinstance(told, dict) else None
            yield from (name for name in names or () if isinstance(name, str))
            where = self._next_page(response.url, link)
            if not where:
                return
            if where in seen:
                break
        raise RegistryError(
            f"cannot list {what}: {self.host} sends the same pages for ever",
            hint="the registry is set up wrongly; tell its operator",
        )

    def _next_page(self, url: str, link: str) -> str:
        """The path of the page that a Link header calls the next one, "" for the last page."""
        target, _, relation = link.partition(";")
        if 'rel="next"' not in relation.replace(" ", "") or not target.strip().startswith("<"):
            return ""
        following = joined(url, target.strip()[1:].removesuffix(">"))
        if origin(following) != origin(self._url):
            raise RegistryError(
                f"cannot list {self.host}: its next page is at {failures.clean(following)}",
                hint="the registry is set up wrongly; tell its operator",
            )
        parts = urlsplit(following)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    def child(self, digest: Digest, size: int) -> bytes:
        """The manifest or index that an index describes; of exactly `size` bytes, verified."""
        body = self.manifest(digest).body
        if len(body) != size:
            raise DigestMismatch(
                f"cannot pull {digest}: the manifest has {len(body)} bytes, not {size}",
                hint="the index is wrong; tell its publisher",
            )
        return body

    def document(self, digest: Digest, size: int) -> bytes:
        """A whole small blob, such as a config, of exactly `size` bytes; the digest is verified."""
        if not 0 <= size <= MAX_SIZE:
            raise RegistryError(
                f"cannot pull {digest}: {size} bytes are more than the {MAX_SIZE} allowed",
                hint="this is not a container image",
            )
        body = b"".join(self.blob(digest, size))
        if digests.of(body, digest.algorithm) != digest:
            raise _wrong_content(digest, self.host)
        return body

    def blob(self, digest: Digest, size: int, start: int = 0) -> Iterator[bytes]:
        """The bytes of a blob of `size` bytes, from `start` on, as they come; not verified, but never
        more or fewer.

        A connection that is lost is taken up again where it broke off. Raises Incomplete when that
        does not help, DigestMismatch when the registry sends more than it should.
        """
        received, losses, restarted = start, 0, False
        while received < size or not start:
            response = self._get_from(digest, received)
            skip, restarted = self._check_range(response, digest, received, size, restarted)
            start, problem = received, None
            try:
                for chunk in response.chunks():
                    fresh = chunk[skip:] if skip else chunk
                    skip = max(0, skip - len(chunk))
                    received += len(fresh)
                    if received > size:
                        raise _wrong_content(digest, self.host)
                    if fresh:
                        yield fresh
            except (urllib3.exceptions.HTTPError, OSError) as lost:
                problem = lost
            if received == size:
                return
            losses = 1 if received - start >= self.patience.worthwhile else losses + 1
            problem = problem or ConnectionError("closed")
            self.cancellation.check()
            if losses >= self.patience.tries:
                raise failures.interrupted(str(digest), self.host, problem, received, size)
            log.info("registry.resuming", digest=digest, received=received, size=size)
            self.cancellation.sleep(self.patience.wait_before(losses))

    # -- one request ----------------------------------------------------------------------------

    def _get_from(self, digest: Digest, offset: int) -> Response:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        what = f"{self.host}/{self.repository}@{digest}"
        response = self._get(f"blobs/{digest}", what, headers)
        if response.status == 416 and offset:
            response.close()
            response = self._get(f"blobs/{digest}", what, {})
        if response.status == 416:
            body = response.error_body()
            raise failures.refused(what, self.host, 416, body, response.headers)
        return response

    def _check_range(
        self, response: Response, digest: Digest, offset: int, size: int, restarted: bool
    ) -> tuple[int, bool]:
        """How many bytes of this answer are known already, and whether it began anew.

        RFC 9110 §14.4: a 206 says which bytes it holds; they must be those that were asked for.
        """
        if response.status == 206:
            expected = f"bytes {offset}-{size - 1}/"
            told = response.headers.get("Content-Range", "").strip()
            if offset and told.startswith(expected) and told[len(expected) :] in ("*", str(size)):
                return 0, restarted
            response.close()
            raise RegistryError(
                f"cannot resume {digest}: {self.host} sends {failures.clean(told) or 'no range'!r} "
                f"in place of bytes {offset}-{size - 1}",
                hint="run the same command again; layers that are complete are kept",
            )
        if not offset:
            return 0, restarted
        if restarted:
            response.close()
            raise failures.interrupted(
                str(digest), self.host, ConnectionError("closed"), offset, size
            )
        return offset, True

    def _get(self, path: str, what: str, headers: Mapping[str, str]) -> Response:
        """A successful answer (200, 206) or 416; raises for everything else."""
        response = self.ask("GET", f"/v2/{self.repository}/{path}", what, headers=headers)
        if response.status in (200, 206, 416):
            return response
        raise self.refused(response, what)

    def ask(
        self,
        method: str,
        where: str,
        what: str,
        *,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
        patient: bool = True,
    ) -> Response:
        """The answer to one request, whatever it is but a 401 that can be dealt with.

        `where` is a path of the registry or a URL that it gave; `scope` what a token has to allow
        (default: to pull). `body` makes the bytes to send, again for each try; without `patient`
        nothing is tried again but what a token mends. Credentials go to the registry's own origin
        only. Raises RegistryError and its kinds, and without `patient` what urllib3 raises.
        """
        scope = f"repository:{self.repository}:pull" if scope is None else scope
        authorizer = self._connect()
        url = f"{self._url}{where}" if where.startswith("/") else where
        at_home = origin(url) == origin(self._url)
        for attempt in range(_MAX_ROUNDS + 1):
            header = authorizer.header(scope) if at_home else ""
            request = _Request(method, url, headers or {}, header, body)
            response = self._send_patiently(request) if patient else self._send(request)
            if response.status != 401:
                break
            if attempt == _MAX_ROUNDS or not at_home:
                raise self.refused(response, what)
            authorizer.answer(response, scope, header, what)
        return response

    def refused(self, response: Response, what: str) -> RootlessError:
        """The error for an answer that is not what was hoped for; reads the body."""
        host = urlsplit(response.url).netloc
        host = self.host if host == urlsplit(self._url).netloc else failures.clean(host)
        body = response.error_body()
        return failures.refused(what, host, response.status, body, response.headers, self.verb)

    def _send(self, request: _Request) -> Response:
        return self._transport.open(
            request.method,
            request.url,
            headers=request.headers,
            authorization=request.authorization,
            body=request.body() if request.body else None,
            answer_within=self.patience.commit if request.method == "PUT" else None,
        )

    def _send_patiently(self, request: _Request) -> Response:
        """Ask again when the registry is overloaded or hangs up, up to `Patience.tries` times."""
        patience = self.patience
        for attempt in range(1, patience.tries + 1):
            last = attempt == patience.tries
            try:
                response = self._send(request)
            except (urllib3.exceptions.HTTPError, OSError) as problem:
                self.cancellation.check()
                if last or not failures.is_passing(problem):
                    raise failures.unreachable(self.host, problem) from problem
                wait = patience.wait_before(attempt)
            else:
                if response.status not in _TRANSIENT or last:
                    return response
                wait = patience.wait_before(attempt, response.headers.get("Retry-After"))
                response.error_body()
            log.info("registry.waiting", host=self.host, seconds=wait, attempt=attempt)
            self.cancellation.sleep(wait)
        raise AssertionError("unreachable")

    # -- where it is ----------------------------------------------------------------------------

    def _connect(self) -> Authorizer:
        """Settle on https or http once; the first request of a transfer, made by one thread."""
        if self._authorizer is None:
            self._url = f"https://{self.host}"
            if self._insecure and not self._speaks_tls():
                self._url = f"http://{self.host}"
            self._authorizer = Authorizer(
                self._transport,
                self._url,
                self._find_credentials,
                verb=self.verb,
                offline=self._is_login,
            )
        return self._authorizer

    @property
    def identity_token(self) -> str:
        """The token to keep in place of a password that a token server gave, or ""."""
        return self._authorizer.identity_token if self._authorizer else ""

    def _speaks_tls(self) -> bool:
        """docker's rule for insecure registries: https first, http when that is not spoken."""
        try:
            self._transport.open("GET", f"{self._url}/v2/", headers={}).close()
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            if failures.is_not_tls(problem) or urlsplit(self._url).port is None:
                return False
            if failures.is_passing(problem):
                return False  # some servers hang up on a TLS greeting
            raise failures.unreachable(self.host, problem) from problem
        return True

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    authorization: str
    body: Callable[[], Body] | None


def _wrong_content(digest: Digest, host: str) -> DigestMismatch:
    return DigestMismatch(
        f"cannot pull {digest}: {host} sends other bytes than that digest promises",
        hint="the registry or something before it is broken; pull again later",
    )
