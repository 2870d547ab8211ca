# SPDX-License-Identifier: Apache-2.0
"""Deleting a directory tree that a hostile program wrote: any depth, any modes, never across a mount.

Runs between fork and exec too; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def remove(path: str) -> None:
    """Delete `path` and everything below it; a missing path is fine.

    Directories are moved up to the top one by one instead of being descended into, so neither depth
    nor path length matters. Raises OSError; EBUSY when something below is still mounted.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except PermissionError:
        os.chmod(path, 0o700)
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    # Names nobody has yet: rename(2) over an empty directory would quietly succeed, and an earlier
    # attempt that was interrupted, or lacked the right, may have left some of its own.
    stage = f".delete-{os.urandom(8).hex()}-"
    pending = list(_unlink_files(top))
    staged = 0
    while pending:
        name = pending.pop()
        directory = _open_directory(top, name)
        try:
            for child in _unlink_files(directory):
                staged += 1
                _move(directory, child, top, f"{stage}{staged}")
                pending.append(f"{stage}{staged}")
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=top)


def _move(directory: int, child: str, top: int, moved: str) -> None:
    try:
        os.rename(child, moved, src_dir_fd=directory, dst_dir_fd=top)
    except PermissionError:
        # Changing a directory's ".." needs the right to write it.
        os.chmod(child, 0o700, dir_fd=directory)
        os.rename(child, moved, src_dir_fd=directory, dst_dir_fd=top)


def _open_directory(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return openat2.openat2(parent, name, flags, 0, openat2.RESOLVE_NO_XDEV)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return openat2.openat2(parent, name, flags, 0, openat2.RESOLVE_NO_XDEV)
    except OSError as problem:
        if problem.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "still mounted", name) from None
        raise


def _unlink_files(directory: int) -> Iterator[str]:
    """Delete everything in the directory but its directories, whose names are yielded."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    writable = False
    for name, is_directory in found:
        if is_directory:
            yield name
            continue
        try:
            os.unlink(name, dir_fd=directory)
        except PermissionError:
            if writable:
                raise
            os.fchmod(directory, 0o700)
            writable = True
            os.unlink(name, dir_fd=directory)
