# SPDX-License-Identifier: Apache-2.0
"""Blobs: bytes named by their digest, kept as they came, checked when written and when read.

A blob's file appears complete, by rename, or not at all.
"""

from __future__ import annotations

import os

from rootless.errors import Invalid, NotFound
from rootless.oci import digest as digests
from rootless.oci.digest import Digest
from rootless.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from types import TracebackType

    from rootless.oci.digest import Hasher
    from rootless.paths import Paths

_CHUNK = 1 << 18


class Blobs:
    """The blobs of one store."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def has(self, digest: str) -> bool:
        """True when the blob is here, and complete."""
        return os.path.isfile(self._path(digest))

    def size(self, digest: str) -> int:
        """Its size in bytes; raises NotFound."""
        try:
            return os.stat(self._path(digest)).st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def open(self, digest: str) -> Reader:
        """A reader from the first byte on; raises NotFound."""
        try:
            fd = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _missing(digest) from None
        return Reader(fd, digests.parse(digest))

    def stream(self, digest: str, offset: int = 0) -> FileIO:
        """Its file from an offset on, for sending it: nothing is checked; raises NotFound."""
        try:
            file = open(self._path(digest), "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:
            raise _missing(digest) from None
        file.seek(offset)
        return file

    def read(self, digest: str, limit: int) -> bytes:
        """All bytes of a blob, checked; raises Invalid when there are more than `limit`."""
        with self.open(digest) as reader:
            chunks, length = [], 0
            while chunk := reader.read(_CHUNK):
                chunks.append(chunk)
                length += len(chunk)
                if length > limit:
                    raise Invalid(f"cannot read blob {digest}: it is larger than {limit} bytes")
        return b"".join(chunks)

    def writer(
        self, expected_digest: str | None = None, expected_size: int | None = None
    ) -> Writer:
        """A context manager with `write` and `commit`; leaving it uncommitted leaves nothing."""
        digest = digests.parse(expected_digest) if expected_digest else None
        return Writer(self._paths, digest, expected_size)

    def put(self, data: bytes) -> Digest:
        """Store bytes that are in memory; their digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()[0]

    def delete(self, digest: str) -> None:
        """Remove a blob; a missing one is fine."""
        try:
            os.unlink(self._path(digest))
        except FileNotFoundError:
            pass

    def digests(self) -> Iterator[Digest]:
        """The digests of all blobs, in order."""
        for algorithm in sorted(digests.HEX_LENGTHS):
            try:
                names = sorted(os.listdir(f"{self._paths.blobs}/{algorithm}"))
            except FileNotFoundError:
                continue
            for name in names:
                try:
                    yield digests.parse(f"{algorithm}:{name}")
                except Invalid:
                    continue  # nothing of ours

    def _path(self, digest: str) -> str:
        return self._paths.blob(digests.parse(digest))


class Reader:
    """Reads a blob and hashes it on the way."""

    def __init__(self, fd: int, digest: Digest) -> None:
        self.digest = digest
        self._fd = fd
        self._hashing = digests.hasher(digest.algorithm)

    def read(self, size: int = _CHUNK) -> bytes:
        """Up to `size` bytes, none at the end; raises DigestMismatch there if any were changed."""
        data = os.read(self._fd, size)
        if data:
            self._hashing.update(data)
        elif size:
            found = f"{self.digest.algorithm}:{self._hashing.hexdigest()}"
            digests.check(self.digest, found, f"blob {self.digest}")
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Writer:
    """Writes one blob to a temporary file and, on commit, gives it its name."""

    def __init__(self, paths: Paths, expected: Digest | None, expected_size: int | None) -> None:
        self._paths = paths
        self._expected = expected
        self._expected_size = expected_size
        self._algorithm = expected.algorithm if expected else "sha256"
        self._hashing: Hasher = digests.hasher(self._algorithm)
        self._path = ""
        self._fd = -1
        self.size = 0

    def __enter__(self) -> Writer:
        self._path, self._fd = staging.make_file(self._paths, "blob")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._path:
            os.unlink(self._path)
        os.close(self._fd)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; raises Invalid once there are more than expected, NoSpace."""
        self.size += len(data)
        if self._expected_size is not None and self.size > self._expected_size:
            raise Invalid(f"{self._name()} is longer than the {self._expected_size} bytes promised")
        self._hashing.update(data)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError as problem:
                raise staging.explained(problem, self._name()) from problem

    def commit(self) -> tuple[Digest, int]:
        """Check the bytes, make them last and name them: (digest, size).

        Raises DigestMismatch, Invalid for a wrong size, NoSpace.
        """
        if self._expected_size is not None and self.size != self._expected_size:
            raise Invalid(
                f"{self._name()} has {self.size} bytes and not the {self._expected_size} promised"
            )
        digest = Digest(f"{self._algorithm}:{self._hashing.hexdigest()}")
        if self._expected is not None:
            digests.check(self._expected, digest, "a blob")
        target = self._paths.blob(digest)
        directory = os.path.dirname(target)
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            os.fsync(self._fd)
            os.rename(self._path, target)
            self._path = ""
            staging.sync_directory(directory)
        except OSError as problem:
            raise staging.explained(problem, self._name()) from problem
        return digest, self.size

    def _name(self) -> str:
        return f"blob {self._expected}" if self._expected else "a blob"


def _missing(digest: str) -> NotFound:
    return NotFound(f"no such blob: {digest}", hint="rootless pull IMAGE fetches it again")
