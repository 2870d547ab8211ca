# SPDX-License-Identifier: Apache-2.0
"""The members of an archive as blobs in the store, before it is known what they are.

An archive comes as a stream and may name its content last. What no image turns out to need is
garbage for `images.garbage`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import TYPE_CHECKING

from rootless.errors import Invalid, NotFound
from rootless.images.manifests import MAX_SIZE
from rootless.oci import digest as digests
from rootless.storage import compression, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.oci.digest import Digest
    from rootless.storage.blobs import Blobs

MAX_MEMBERS = 100_000
_MAX_LINKS = 8
_CHUNK = 1 << 18
# Tables of contents: no content of an image themselves.
_TABLES = frozenset(("oci-layout", "index.json", "manifest.json", "repositories"))


class Spool:
    """The members of one archive; `source` names it in errors."""

    def __init__(self, blobs: Blobs, source: str) -> None:
        self._blobs = blobs
        self._source = source
        self._tables: dict[str, bytes] = {}
        self._contents: dict[str, tuple[Digest, int]] = {}
        self._links: dict[str, str] = {}

    # -- filling --------------------------------------------------------------------------------

    def add_tar(self, read: Callable[[], bytes]) -> None:
        """Every file of a tar archive, compressed or not; `read` returns b"" at its end."""
        reader = tar.Reader(compression.Decompressed(read))
        for entry in reader:
            name = entry.name.decode(errors="surrogateescape")
            if entry.kind == tar.SYMLINK:
                target = entry.link.decode(errors="surrogateescape")
                self._add_link(name, posixpath.join(posixpath.dirname(name), target))
            elif entry.kind == tar.LINK:
                self._add_link(name, entry.link.decode(errors="surrogateescape"))
            elif entry.kind == tar.FILE:
                if entry.extents is not None:
                    raise Invalid(f"cannot load {self._source}: {name} is a sparse file")
                self._add(name, reader.data())
        reader.drain()

    def add_directory(self, path: str) -> None:
        """The tables and blobs of an OCI layout on disk; one with symbolic links is Invalid."""
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(_TABLES & set(os.listdir(top))):
                self._add_file(name, top)
            for algorithm in sorted(digests.HEX_LENGTHS):
                self._add_blobs(algorithm, top)
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise Invalid(
                f"cannot load {self._source}: {problem.filename} is a symbolic link or no directory",
                hint="blobs must be files of the layout itself",
            ) from None
        finally:
            os.close(top)

    def _add_blobs(self, algorithm: str, top: int) -> None:
        where = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            blobs = os.open("blobs", where, dir_fd=top)
        except FileNotFoundError:
            return
        try:
            directory = os.open(algorithm, where, dir_fd=blobs)
        except FileNotFoundError:
            return
        finally:
            os.close(blobs)
        try:
            for name in sorted(os.listdir(directory)):
                self._add_file(f"blobs/{algorithm}/{name}", directory)
        finally:
            os.close(directory)

    def _add_file(self, name: str, directory: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(posixpath.basename(name), flags, dir_fd=directory)
        with open(fd, "rb", buffering=0) as file:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                self._add(name, iter(lambda: file.read(_CHUNK), b""))

    def _add(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        self._check_room(name)
        if name in _TABLES:
            self._tables[name] = self._collect(name, pieces)
            return
        with self._blobs.writer(_promised(name)) as writer:
            for piece in pieces:
                writer.write(piece)
            content = writer.commit()
        if self._contents.setdefault(name, content) != content:
            raise Invalid(f"cannot load {self._source}: {name} is in it twice")

    def _collect(self, name: str, pieces: Iterable[bytes | memoryview]) -> bytes:
        body = bytearray()
        for piece in pieces:
            body += piece
            if len(body) > MAX_SIZE:
                raise Invalid(f"cannot load {self._source}: {name} is larger than {MAX_SIZE} bytes")
        return bytes(body)

    def _add_link(self, name: str, target: str) -> None:
        self._check_room(name)
        self._links[name] = target

    def _check_room(self, name: str) -> None:
        if len(self._contents) + len(self._links) >= MAX_MEMBERS:
            raise Invalid(f"cannot load {self._source}: more than {MAX_MEMBERS} members")

    # -- reading --------------------------------------------------------------------------------

    def table(self, name: str) -> bytes | None:
        """A table of contents, such as index.json, or None when there is none of that name."""
        return self._tables.get(name)

    def content(self, name: str) -> tuple[Digest, int]:
        """Digest and size of a member; links inside the archive are followed.

        Raises Invalid for a name that leaves the archive, NotFound for one that is not in it.
        """
        current = name
        for _ in range(_MAX_LINKS):
            current = posixpath.normpath(current)
            if current.startswith(("/", "../")) or current == "..":
                raise Invalid(f"cannot load {self._source}: {name!r} leaves the archive")
            if current in self._contents:
                return self._contents[current]
            if current not in self._links:
                raise NotFound(f"cannot load {self._source}: {name!r} is not in it")
            current = self._links[current]
        raise Invalid(f"cannot load {self._source}: {name!r} is a link to itself")

    def document(self, digest: Digest, size: int) -> bytes:
        """A document among the blobs of an OCI layout; raises NotFound and Invalid."""
        found, length = self.content(f"blobs/{digest.algorithm}/{digest.encoded}")
        if length != size:
            raise Invalid(f"cannot load {self._source}: {digest} has {length} bytes, not {size}")
        return self._blobs.read(found, MAX_SIZE)

    child = document


def _promised(name: str) -> Digest | None:
    """The digest that the name of a blob in an OCI layout promises."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    return digests.parse(f"{parts[1]}:{parts[2]}")
