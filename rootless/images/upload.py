# SPDX-License-Identifier: Apache-2.0
"""Writing into a repository of a registry: blobs, whole or in pieces, and manifests.

OCI distribution-spec 1.1, "Push". Bytes come from whoever calls; a foreign address that a registry
names for an upload is sent the bytes and never the credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import urllib3.exceptions

from rootless import log
from rootless.errors import NotFound, RegistryError, RootlessError
from rootless.images import failures
from rootless.images.transport import joined
from rootless.oci import digest as digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.registry import Registry
    from rootless.images.transport import Response, Stream
    from rootless.oci.digest import Digest

WHOLE = 16 << 20  # bytes up to which a blob is sent in one request
PIECE = 64 << 20  # bytes of one request of a larger one
LEAST_PIECE = 1 << 20  # a registry that takes less at once is not worth talking to
MAX_MOUNTS = 2  # repositories asked for a blob before it is sent
EXISTS, PUSHED = "Layer already exists", "Pushed"

_OVERLOADED = (429, 500, 502, 503, 504)
_NETWORK = (urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True)
class Outgoing:
    """A blob to send: `open` gives a stream of its bytes from an offset on, which is closed after."""

    digest: Digest
    size: int
    open: Callable[[int], Any]


class Repository:
    """One repository to write to. Threads may share it after `connect`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._path = f"/v2/{registry.repository}"
        self._name = f"{registry.host}/{registry.repository}"
        self._scope = f"repository:{registry.repository}:pull,push"

    def connect(self) -> None:
        """Find out how the registry is spoken to; before threads share this."""
        self._ask("HEAD", f"{self._path}/manifests/latest", self._name).close()

    # -- asking ---------------------------------------------------------------------------------

    def has_blob(self, digest: str) -> bool:
        """True when the repository has the blob; False also where it does not say."""
        response = self._ask("HEAD", f"{self._path}/blobs/{digest}", self._name)
        response.close()
        return response.status == 200

    def mount(self, digest: str, sources: Iterable[str]) -> tuple[str, str]:
        """Get a blob from another repository of the registry: (that repository, "").

        Where none gives it: ("", the address of an upload that was begun instead, or "").
        """
        for source in sources:
            query = urlencode({"mount": digest, "from": source})
            scope = f"{self._scope} repository:{source}:pull"
            try:
                response = self._ask("POST", f"{self._path}/blobs/uploads/?{query}", "", scope)
            except RegistryError as problem:
                log.debug("push.no_mount", source=source, reason=problem.message)
                continue
            if response.status == 201:
                response.close()
                return source, ""
            if response.status == 202:
                return "", self._location(response)
            response.close()
        return "", ""

    # -- blobs ----------------------------------------------------------------------------------

    def send(self, blob: Outgoing, begun: str, advance: Callable[[int], None]) -> None:
        """Send a blob; `begun` is the address of an upload that waits for it, or "".

        `advance` is told the bytes that went out, negative ones when they have to go again. Raises
        RegistryError and its kinds, Incomplete when the connection is lost too often.
        """
        transfer = _Transfer(self, blob, begun, advance)
        if blob.size <= WHOLE:
            transfer.whole()
        else:
            transfer.in_pieces()

    # -- manifests ------------------------------------------------------------------------------

    def put_manifest(self, name: str, body: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag or its digest; returns its digest."""
        what = f"{self._name}{'@' if ':' in name else ':'}{name}"
        headers = {"Content-Type": media_type, "Content-Length": str(len(body))}
        where = f"{self._path}/manifests/{name}"
        response = self._ask("PUT", where, what, headers=headers, body=lambda: body)
        if response.status not in (200, 201, 202):
            raise self._registry.refused(response, what)
        response.close()
        digest = digests.of(body)
        told = response.headers.get("Docker-Content-Digest", "")
        if told and told != digest:
            log.warning("registry.wrong_digest_header", told=told[:100], is_=digest)
        return digest

    # -- for transfers --------------------------------------------------------------------------

    def _ask(
        self, method: str, where: str, what: str, scope: str | None = None, **settings: Any
    ) -> Response:
        return self._registry.ask(method, where, what, scope=scope or self._scope, **settings)

    def _begin(self, what: str) -> str:
        response = self._ask("POST", f"{self._path}/blobs/uploads/", what, body=lambda: b"")
        if response.status != 202:
            raise self._registry.refused(response, what)
        return self._location(response)

    def _location(self, response: Response) -> str:
        """The address that an answer names for what comes next."""
        told = response.headers.get("Location", "")
        response.close()
        if not told:
            raise RegistryError(
                f"cannot push to {self._name}: it does not say where to upload to",
                hint="the registry answers 202 without a Location; tell its operator",
            )
        try:
            return joined(response.url, told)
        except RegistryError as problem:
            raise RegistryError(
                f"cannot push to {self._name}: {failures.clean(told)} is no address to upload to: "
                f"{problem.message}",
                hint="a registry behind a TLS proxy must be told its own address; tell its operator",
            ) from None


class _Transfer:
    """One blob on its way."""

    def __init__(
        self, target: Repository, blob: Outgoing, begun: str, advance: Callable[[int], None]
    ) -> None:
        self._target = target
        self._registry = target._registry
        self._blob = blob
        self._what = f"{target._name}@{blob.digest}"
        self._location = begun
        self._advance = advance
        self._offset = 0  # bytes the registry has, as far as we know
        self._told = 0  # bytes the watcher knows of
        self._losses = 0
        self._restarted = False

    def whole(self) -> None:
        """POST, then PUT with all bytes; anew when it is lost."""
        while True:
            location = self._location or self._target._begin(self._what)
            self._location = ""
            try:
                response = self._send("PUT", self._closing(location), 0, self._blob.size)
            except _NETWORK as lost:
                self._lose(lost)
            else:
                if response.status in (201, 204):
                    response.close()
                    return
                if response.status == 413 and self._blob.size > LEAST_PIECE:
                    response.close()
                    self.in_pieces(max(self._blob.size // 2, LEAST_PIECE))
                    return
                self._retry_or_raise(response)
            self._tell(0)

    def in_pieces(self, piece: int = 0) -> None:
        """POST, PATCH for each piece, PUT to end it; what is lost goes on where the registry is."""
        piece = piece or PIECE
        self._location = self._location or self._target._begin(self._what)
        while self._offset < self._blob.size:
            length = min(piece, self._blob.size - self._offset)
            try:
                response = self._send("PATCH", self._location, self._offset, length)
            except _NETWORK as lost:
                self._lose(lost)
                self._ask_where()
                continue
            if response.status in (202, 204):
                self._accept(response, length)
            elif response.status == 413 and length > LEAST_PIECE:
                response.close()
                piece = max(length // 2, LEAST_PIECE)
                self._ask_where()
            elif response.status == 416:
                response.close()
                self._lose(ConnectionError("closed"))
                self._ask_where()
            elif response.status == 404 and not self._restarted:
                response.close()
                self._restart()
            else:
                self._retry_or_raise(response)
                self._ask_where()
            self._tell(self._offset)
        self._close()

    # -- steps ----------------------------------------------------------------------------------

    def _send(self, method: str, where: str, offset: int, length: int) -> Response:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if method == "PATCH":
            headers["Content-Range"] = f"{offset}-{offset + length - 1}"
        opened: list[_Window] = []

        def body() -> Stream:
            self._tell(offset)
            opened.append(_Window(self._blob.open(offset), length, self._sent))
            return opened[-1]

        try:
            return self._target._ask(
                method, where, self._what, headers=headers, body=body, patient=False
            )
        finally:
            for each in opened:
                each.close()

    def _sent(self, count: int) -> None:
        self._registry.cancellation.check()
        self._told += count
        self._advance(count)

    def _tell(self, offset: int) -> None:
        if offset != self._told:
            self._advance(offset - self._told)
            self._told = offset

    def _accept(self, response: Response, length: int) -> None:
        """A piece arrived; `Range` says how much of the blob there is, should it not be all of it."""
        end = _range_end(response)
        before = self._offset
        self._offset = before + length if end is None else min(end, before + length)
        self._location = self._target._location(response)
        if self._offset > before:
            self._losses = 0
        else:
            self._lose(ConnectionError("closed"))

    def _ask_where(self) -> None:
        """How far the registry is, after something was lost."""
        response = self._target._ask("GET", self._location, self._what)
        if response.status == 404 and not self._restarted:
            response.close()
            self._restart()
            return
        if response.status not in (202, 204):
            raise self._registry.refused(response, self._what)
        self._offset = min(_range_end(response) or 0, self._blob.size)
        if response.headers.get("Location"):
            self._location = self._target._location(response)
        response.close()
        log.info("push.resuming", digest=self._blob.digest, offset=self._offset)

    def _restart(self) -> None:
        self._restarted = True
        self._offset = 0
        self._location = self._target._begin(self._what)

    def _close(self) -> None:
        """End an upload in pieces; the answer may be lost though the blob is there."""
        while True:
            try:
                response = self._send("PUT", self._closing(self._location), self._blob.size, 0)
            except _NETWORK as lost:
                self._lose(lost)
                if self._target.has_blob(self._blob.digest):
                    return
                continue
            if response.status in (201, 204):
                response.close()
                return
            self._retry_or_raise(response)

    def _closing(self, location: str) -> str:
        joint = "&" if "?" in location else "?"
        return f"{location}{joint}{urlencode({'digest': self._blob.digest})}"

    def _retry_or_raise(self, response: Response) -> None:
        """Wait, if the registry is overloaded and there is patience left."""
        self._losses += 1
        patience = self._registry.patience
        if response.status not in _OVERLOADED or self._losses >= patience.tries:
            raise self._refusal(response)
        wait = patience.wait_before(self._losses, response.headers.get("Retry-After"))
        response.close()
        self._registry.cancellation.sleep(wait)

    def _refusal(self, response: Response) -> RootlessError:
        problem = self._registry.refused(response, self._what)
        if isinstance(problem, NotFound):
            return RegistryError(problem.message, hint=problem.hint)
        return problem

    def _lose(self, problem: Exception) -> None:
        """Count a lost connection and wait, or give up."""
        self._registry.cancellation.check()
        self._losses += 1
        patience = self._registry.patience
        if self._losses >= patience.tries or not _may_pass(problem):
            host, size = self._registry.host, self._blob.size
            digest = str(self._blob.digest)
            raise failures.interrupted(digest, host, problem, self._offset, size, "push")
        self._registry.cancellation.sleep(patience.wait_before(self._losses))


class _Window:
    """So many bytes of a stream, counted."""

    def __init__(self, stream: Any, length: int, sent: Callable[[int], None]) -> None:
        self._stream = stream
        self._left = length
        self._sent = sent

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none after the last."""
        data: bytes = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise OSError("a file became shorter while it was sent")
        self._left -= len(data)
        self._sent(len(data))
        return data

    def close(self) -> None:
        self._stream.close()


def _may_pass(problem: Exception) -> bool:
    return isinstance(problem, OSError) or failures.is_passing(problem)


def _range_end(response: Response) -> int | None:
    """The number of bytes that `Range: 0-N` of an upload's status tells, None without one.

    A registry with nothing yet says `0-0`, the same as with one byte: nothing is the safe reading.
    """
    first, dash, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
    if not dash or first != "0" or not last.isascii() or not last.isdigit():
        return None
    return int(last[:18]) + 1 if int(last[:18]) else 0
