# SPDX-License-Identifier: Apache-2.0
"""The union by copying, for hosts without any union file system: layers are laid over each other once."""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import NoSpace
from rootless.linux import tree
from rootless.runtime import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.idmap import IdMap

_OPAQUE = "user.overlay.opaque"
_CHUNK = 1 << 20


def copy_layers(id_map: IdMap, lowers: Sequence[str], container: str) -> None:
    """Make `container`/rootfs of `lowers` (uppermost first); raises NoSpace and OSError."""
    target = container + "/rootfs"

    def copy() -> bytes:
        os.umask(0)
        os.mkdir(target, 0o755)
        for lower in reversed(lowers):
            _Layer(lower, target).apply()
        return b""

    try:
        userns.call(id_map, copy)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"cannot copy the image for the container: no space left on device: {container}",
                hint="rootless rm and rootless rmi make room, or use overlay or fuse-overlayfs",
            ) from None
        raise


class _Layer:
    """One layer being laid over what is in the target already."""

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.links: dict[tuple[int, int], str] = {}  # first copy of a file that has several names

    def apply(self) -> None:
        """Copy; directory times come last, since making what is in them changes them."""
        directories: list[tuple[str, os.stat_result]] = []
        pending = [""]
        while pending:
            below = pending.pop()
            source = os.path.join(self.source, below) if below else self.source
            directories.append((below, os.lstat(source)))
            with os.scandir(source) as entries:
                for entry in entries:
                    path = os.path.join(below, entry.name)
                    if self._copy(path, entry.stat(follow_symlinks=False)):
                        pending.append(path)
        for below, status in reversed(directories):
            self._finish(below, status)

    def _copy(self, path: str, status: os.stat_result) -> bool:
        """Copy one entry; True for a directory, whose entries are to follow."""
        source, target = os.path.join(self.source, path), os.path.join(self.target, path)
        mode = status.st_mode
        if stat.S_ISCHR(mode) and status.st_rdev == 0:
            _remove(target)  # a whiteout
            return False
        if stat.S_ISDIR(mode):
            if _is_opaque(source) or not _is_directory(target):
                _remove(target)
                os.mkdir(target)
            return True
        _remove(target)
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self.links:
            os.link(self.links[key], target, follow_symlinks=False)
            return False
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISREG(mode):
            _copy_data(source, target, status.st_size)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(target)
        else:
            return False
        self._finish(path, status)
        if status.st_nlink > 1:
            self.links[key] = target
        return False

    def _finish(self, path: str, status: os.stat_result) -> None:
        """Owner, mode, attributes and times; in this order, since chown clears setuid bits."""
        source, target = os.path.join(self.source, path), os.path.join(self.target, path)
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode))
            for name in os.listxattr(source):
                if not name.startswith("user.overlay."):
                    _copy_attribute(source, target, name)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(target, ns=times, follow_symlinks=False)


def _copy_data(source: str, target: str, size: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    writing = os.open(target, flags, 0o600)
    try:
        while size and (copied := _copy_some(reading, writing, size)):
            size -= copied
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, target) from None
    finally:
        os.close(reading)
        os.close(writing)


def _copy_some(reading: int, writing: int, size: int) -> int:
    """Copy at most `size` bytes at the descriptors' positions; returns how many, 0 at the end."""
    try:
        # Shares the blocks where the file system can (btrfs, xfs); see copy_file_range(2).
        return os.copy_file_range(reading, writing, min(size, _CHUNK << 6))
    except OSError as problem:
        if problem.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.sendfile(writing, reading, None, min(size, _CHUNK << 6))


def _copy_attribute(source: str, target: str, name: str) -> None:
    try:
        os.setxattr(target, name, os.getxattr(source, name))
    except PermissionError:
        pass  # security.* of an id that is not mapped


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE) == b"y"
    except OSError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        tree.remove(path)
