# SPDX-License-Identifier: Apache-2.0
"""Work in progress below `Paths.tmp`: made locked, renamed away when complete, else recognisable garbage.

Whatever lies there and is not flocked belongs to nobody that lives, so anybody may delete it. A mark
is a file there that says what is to be done after that: its owner was changing the store's content.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import log
from rootless.errors import NoSpace
from rootless.runtime import idmap, userns
from rootless.storage import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.paths import Paths


_MARK = "content"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def make_directory(paths: Paths, kind: str) -> tuple[str, int]:
    """A new, empty directory (0700) and the descriptor that holds it locked."""
    while True:
        path = _new_name(paths, kind)
        os.mkdir(path, 0o700)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # a sweep was quicker
        if _is_ours(path, fd):
            return path, fd
        os.close(fd)


def make_file(paths: Paths, kind: str) -> tuple[str, int]:
    """A new, empty file (0600) and the descriptor, open for reading and writing, that locks it."""
    while True:
        path = _new_name(paths, kind)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if _is_ours(path, fd):
            return path, fd
        os.close(fd)


class Mark:
    """A mark while its owner is at work; gone afterwards unless `keep` was called."""

    def __init__(self, paths: Paths) -> None:
        self._path, self._fd = "", -1
        try:
            self._path, self._fd = make_file(paths, _MARK)
        except OSError as problem:
            if problem.errno not in _FULL:
                raise  # and on a full disk, deleting has to work without

    def __enter__(self) -> Mark:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._path:
            unlink(self._path)
        if self._fd >= 0:
            os.close(self._fd)

    def note(self, image_id: str) -> None:
        """Name an image that is to go, if we are killed now, unless something has it by then."""
        if self._fd < 0:
            return
        try:
            os.write(self._fd, f"{image_id}\n".encode())
        except OSError as problem:
            if problem.errno not in _FULL:
                raise

    def keep(self) -> None:
        """Leave the mark to whoever comes next."""
        self._path = ""


def marked(paths: Paths) -> Mark:
    """A context manager around changes of content that is not named yet, or not any more."""
    return Mark(paths)


def abandoned_marks(paths: Paths) -> list[str]:
    """The marks whose owners are gone."""
    return [path for path in _listed(paths) if _is_mark(path) and is_abandoned(path)]


def noted(mark: str) -> list[str]:
    """The images that an abandoned mark names."""
    try:
        with open(mark, encoding="ascii", errors="replace") as file:
            return [line.strip() for line in file if line.endswith("\n")]
    except OSError:
        return []


def abandoned(paths: Paths) -> list[str]:
    """Everything that nobody holds, marks too."""
    return [path for path in _listed(paths) if is_abandoned(path)]


def is_abandoned(path: str) -> bool:
    """True when nobody holds the file or directory; what is neither, nobody can hold."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return locks.try_lock(fd)
    finally:
        os.close(fd)


def unlink(path: str) -> None:
    """Delete a file; one that is gone is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def sweep(paths: Paths) -> int:
    """Delete what nobody holds but marks, and say how many; what resists is logged and left."""
    swept = 0
    for path in _listed(paths):
        if _is_mark(path):
            continue
        try:
            swept += _sweep_one(path)
        except OSError as problem:
            log.warning("staging.left", path=path, reason=str(problem))
    return swept


def sync_directory(path: str) -> None:
    """fsync a directory, so that a rename in it survives a power cut; see fsync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: str, data: bytes) -> None:
    """Make `path` with `data` and sync it; for files inside a staging directory."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(paths: Paths, path: str, data: bytes) -> None:
    """Write a whole file so that readers see the old or the new one, also after a power cut."""
    temporary, descriptor = make_file(paths, "record")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    sync_directory(os.path.dirname(path))


def explained(problem: OSError, what: str) -> Exception:
    """NoSpace when `problem` came of a full disk or quota, else `problem` itself."""
    if problem.errno not in _FULL:
        return problem
    reason = (problem.strerror or "no space").lower()
    return NoSpace(f"cannot store {what}: {reason}", hint="free some space: rootless rmi IMAGE")


def _listed(paths: Paths) -> list[str]:
    try:
        with os.scandir(paths.tmp) as entries:
            return [entry.path for entry in entries]
    except FileNotFoundError:
        return []


def _is_mark(path: str) -> bool:
    return os.path.basename(path).startswith(_MARK + ".")


def _new_name(paths: Paths, kind: str) -> str:
    return f"{paths.tmp}/{kind}.{os.getpid()}.{os.urandom(6).hex()}"


def _is_ours(path: str, fd: int) -> bool:
    """Lock it; False when a sweep locked it first, or had deleted it when we got the lock."""
    if not locks.try_lock(fd):
        return False
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sweep_one(path: str) -> int:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0  # it was somebody's, who has finished
    if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
        os.unlink(path)
        return 1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        if not locks.try_lock(fd):
            return 0
        if stat.S_ISDIR(found.st_mode):
            userns.remove_tree(idmap.default(), path)
        else:
            os.unlink(path)
        return 1
    except FileNotFoundError:
        return 0
    finally:
        os.close(fd)
