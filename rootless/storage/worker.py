# SPDX-License-Identifier: Apache-2.0
"""The process that unpacks one layer: bytes from a socket, files below a tree, layer.json as answer.

It is root of a user namespace, without a network, chrooted into the tree, and imports nothing more.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from rootless.errors import Invalid, RootlessError
from rootless.oci import digest as digests
from rootless.oci import document
from rootless.storage import listing, tar
from rootless.storage.compression import CHUNK, Decompressed
from rootless.storage.unpack import Writer

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from rootless.oci.digest import Hasher
    from rootless.runtime.idmap import IdMap

_HINT = "limits in the configuration; see docs/reference/configuration.md"
_AHEAD = 16  # chunks that may wait for the writer


class LayerInfo(TypedDict):
    """What layer.json says."""

    diff_id: str
    id_map: str
    compression: str
    compressed: int  # bytes that came
    archive: int  # bytes of the archive
    size: int  # bytes of all files
    entries: int
    files: int
    devices_skipped: int
    xattrs_skipped: int
    opaque: bool  # the root hides all layers below
    listing: str  # `listing.digest` of the tree when it was made


class Limits(NamedTuple):
    """What one layer may come to: bytes of all files, entries, components of a name."""

    bytes: int
    entries: int
    depth: int


class Job:
    """What to do, made in the parent; `run` is for `runtime.userns.spawn`."""

    def __init__(
        self,
        reading: socket.socket,
        tree: int,
        id_map: IdMap,
        limits: Limits,
        algorithm: str,
        name: str,
    ) -> None:
        self._reading = reading
        self._tree = tree
        self._id_map = id_map
        self._limits = limits
        self._algorithm = algorithm
        self._name = name
        self._hashing: Hasher = digests.hasher(algorithm)

    def run(self) -> bytes:
        """Unpack; the LayerInfo as JSON. Raises RootlessError naming the layer, and OSError."""
        shut_in(self._tree)
        if not self._id_map.is_single:
            os.fchown(self._tree, 0, 0)
        try:
            return document.dumps(self._unpack())
        except RootlessError as problem:
            message = f"cannot unpack {self._name}: {problem.message}"
            kind = Invalid if isinstance(problem, Invalid) else type(problem)
            raise kind(message, hint=problem.hint) from None

    def _unpack(self) -> LayerInfo:
        stream = Decompressed(self._receive)
        reader = tar.Reader(ahead(self._hashed(stream)))
        limits = self._limits
        writer = Writer(self._tree, self._id_map, limits.bytes)
        for entry in reader:
            if writer.entries >= limits.entries:
                raise Invalid(f"more than {limits.entries} entries", hint=_HINT)
            if entry.name.count(b"/") >= limits.depth:
                name = tar.show(entry.name)
                raise Invalid(f"{name} has more than {limits.depth} components", hint=_HINT)
            writer.add(entry, reader.data())
        reader.drain()
        opaque = writer.finish()
        return {
            "diff_id": f"{self._algorithm}:{self._hashing.hexdigest()}",
            "id_map": self._id_map.key,
            "compression": stream.kind,
            "compressed": stream.consumed,
            "archive": stream.produced,
            "size": writer.size,
            "entries": writer.entries,
            "files": writer.files,
            "devices_skipped": writer.devices_skipped,
            "xattrs_skipped": writer.xattrs_skipped,
            "opaque": opaque,
            "listing": listing.digest(self._tree, writer.checksums),
        }

    def _receive(self) -> bytes:
        return self._reading.recv(CHUNK)

    def _hashed(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in stream:
            self._hashing.update(chunk)
            yield chunk


def ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same chunks, made in a thread: decompressing and hashing leave Python's lock to the writer.

    Raises what making them raised. The thread is a daemon: the process leaves without it.
    """
    waiting: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)

    def fill() -> None:
        try:
            for chunk in chunks:
                waiting.put(chunk)
            waiting.put(b"")
        except BaseException as problem:
            waiting.put(problem)

    threading.Thread(target=fill, daemon=True).start()
    while chunk := waiting.get():
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


def shut_in(tree: int) -> None:
    """Make the tree all there is to this process, and let it import nothing that is found there."""
    os.fchdir(tree)
    os.chroot(".")
    os.umask(0)
    sys.path.clear()
    sys.meta_path.clear()
