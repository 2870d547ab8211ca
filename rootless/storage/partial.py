# SPDX-License-Identifier: Apache-2.0
"""Downloads that are not finished: what came of a blob is kept for the next try, for a limited time.

    partial/<algorithm>-<hex>   the first bytes of a blob; whoever adds to it holds the blob's lock
    partial/pull-<hex>          what one interrupted pull has brought, or meant to: digests and diff
                                ids, one a line; they are spared by the collection of what is unused

One process at a time downloads a blob; who waited finds it in the store. Everything here is garbage
once it is older than limits.keep-downloads-hours and not in use.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rootless import configuration
from rootless.errors import DigestMismatch, Interrupted, Invalid, RegistryError
from rootless.oci import digest as digests
from rootless.storage import blobs, locks, staging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from rootless.oci.digest import Digest
    from rootless.paths import Paths

_CHUNK = 1 << 18
_PULL = "pull-"
# Failures after which the same bytes would still be good.
_PASSING = (RegistryError, Interrupted, KeyboardInterrupt)


class Unresumable(DigestMismatch):
    """The bytes that an earlier try had left were no good; they are gone now, and a new try begins anew."""


class Writer(blobs.Writer):
    """Writes one blob, going on where an earlier process stopped.

    Entering waits while another process downloads the same blob; `is_here` then tells that it came.
    `replay` has to be read to its end before the first `write`.
    """

    def __init__(self, paths: Paths, digest: Digest, size: int) -> None:
        super().__init__(paths, digest, size)
        self._lock = locks.Lock(paths.lock("blob", digest.encoded[:32]))
        self._blob = paths.blob(digest)
        self.is_here = False
        self.kept = 0

    def __enter__(self) -> Writer:
        self._lock.__enter__()
        try:
            self.is_here = os.path.isfile(self._blob)
            if not self.is_here:
                self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        assert self._expected is not None
        assert self._expected_size is not None
        os.makedirs(self._paths.partial, 0o700, exist_ok=True)
        self._path = self._paths.partial_blob(self._expected)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.kept = os.fstat(self._fd).st_size
        if self.kept > self._expected_size:
            os.ftruncate(self._fd, 0)
            self.kept = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._path and not isinstance(problem, _PASSING):
                staging.unlink(self._path)
            if self._fd >= 0:
                os.close(self._fd)
        finally:
            self._lock.release()
        if self.kept and isinstance(problem, Invalid):
            raise Unresumable(
                f"what was kept of {self._name()} is damaged: {problem.message}"
            ) from problem

    def replay(self) -> Iterator[bytes]:
        """The bytes that are here already."""
        while self.size < self.kept:
            data = os.read(self._fd, min(_CHUNK, self.kept - self.size))
            if not data:
                raise Invalid(f"{self._name()} became shorter meanwhile")
            self._hashing.update(data)
            self.size += len(data)
            yield data


class Pull:
    """The note of one pull, so that its blobs and layers outlive its being killed; a context manager."""

    def __init__(self, paths: Paths, manifest: Digest, wanted: Iterable[str]) -> None:
        self._paths = paths
        self._path = f"{paths.partial}/{_PULL}{manifest.encoded}"
        self._wanted = sorted(set(wanted))

    def __enter__(self) -> Pull:
        if self._wanted:
            os.makedirs(self._paths.partial, 0o700, exist_ok=True)
            text = "".join(f"{digest}\n" for digest in self._wanted)
            staging.replace_file(self._paths, self._path, text.encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._wanted and not isinstance(problem, _PASSING):
            staging.unlink(self._path)


def wanted(paths: Paths) -> set[str]:
    """Digests and diff ids that an interrupted pull may still ask for."""
    found: set[str] = set()
    for path in _listed(paths):
        if os.path.basename(path).startswith(_PULL) and not _is_old(path):
            found.update(_read(path))
    return found


def stray(paths: Paths) -> list[str]:
    """Files here that no interrupted pull has a use for, and that are not in use."""
    kept = wanted(paths)
    found = []
    for path in _listed(paths):
        name = os.path.basename(path)
        if name.startswith(_PULL):
            is_wanted = not _is_old(path) and os.path.isfile(path)
        else:
            is_wanted = name.replace("-", ":", 1) in kept
        if not is_wanted:
            found.append(path)
    return found


def sweep(paths: Paths, *, every: bool = False) -> int:
    """Delete what is too old, or with `every` whatever is not in use; returns how many files."""
    count = 0
    for path in _listed(paths):
        if not every and not _is_old(path):
            continue
        try:
            digest = digests.parse(os.path.basename(path).replace("-", ":", 1))
        except Invalid:
            staging.unlink(path)
            count += 1
            continue
        lock = locks.Lock(paths.lock("blob", digest.encoded[:32]), wait=False)
        if lock.try_enter():
            staging.unlink(path)
            lock.release()
            count += 1
    return count


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


def _listed(paths: Paths) -> list[str]:
    try:
        return [f"{paths.partial}/{name}" for name in sorted(os.listdir(paths.partial))]
    except FileNotFoundError:
        return []


def _is_old(path: str) -> bool:
    try:
        hours = configuration.load().limit("keep-downloads-hours", 24)
        return time.time() - os.stat(path).st_mtime > 3600 * hours
    except FileNotFoundError:
        return False
