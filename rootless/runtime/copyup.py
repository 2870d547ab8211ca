# SPDX-License-Identifier: Apache-2.0
"""Copying a directory into a fresh file system that hides it: the mount option `tmpcopyup`.

By descriptors, so that no link in the image leads anywhere else. Runs between fork and exec; imports
nothing later.
"""

from __future__ import annotations

import os

_FORMAT, _DIRECTORY, _FILE, _LINK, _FIFO = 0o170000, 0o040000, 0o100000, 0o120000, 0o010000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20


def copy(source: int, target: int) -> None:
    """Copy what is in the directory `source` into the empty directory `target`; both may be O_PATH.

    Owners and modes come along as far as we may set them; devices and sockets stay behind.
    """
    # Depth first: two descriptors for each level, however wide the directories are.
    flags = _READ | os.O_DIRECTORY
    levels = [_Level(os.open(".", flags, dir_fd=source), os.open(".", flags, dir_fd=target))]
    mode = os.fstat(levels[0].there).st_mode & 0o7777  # as the mount options say
    while levels:
        level = levels[-1]
        if level.names:
            below = _copy_entry(level.here, level.there, level.names.pop())
            if below is not None:
                levels.append(below)
        else:
            level.close()
            levels.pop()
    again = os.open(".", flags, dir_fd=target)
    os.fchmod(again, mode)
    os.close(again)


class _Level:
    """A directory, its copy, and what is left to do in them."""

    __slots__ = ("here", "names", "there")

    def __init__(self, here: int, there: int) -> None:
        self.here = here
        self.there = there
        self.names = os.listdir(here)

    def close(self) -> None:
        # Last, because making entries changes the time, and the mode may forbid it.
        _dress(self.there, os.fstat(self.here))
        os.close(self.here)
        os.close(self.there)


def _copy_entry(here: int, there: int, name: str) -> _Level | None:
    """Copy one entry; a directory is made, and its contents are left to the caller."""
    status = os.stat(name, dir_fd=here, follow_symlinks=False)
    kind = status.st_mode & _FORMAT
    if kind == _DIRECTORY:
        os.mkdir(name, 0o700, dir_fd=there)
        flags = _READ | os.O_DIRECTORY
        return _Level(os.open(name, flags, dir_fd=here), os.open(name, flags, dir_fd=there))
    if kind == _LINK:
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        _give(name, there, status)
    elif kind == _FILE:
        _copy_file(here, there, name)
    elif kind == _FIFO:
        os.mkfifo(name, status.st_mode & 0o777, dir_fd=there)
        _give(name, there, status)
    return None


def _copy_file(here: int, there: int, name: str) -> None:
    reading = os.open(name, _READ, dir_fd=here)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    writing = os.open(name, flags, 0o600, dir_fd=there)
    try:
        while data := os.read(reading, _CHUNK):
            while data:
                data = data[os.write(writing, data) :]
        _dress(writing, os.fstat(reading))
    finally:
        os.close(reading)
        os.close(writing)


def _dress(fd: int, status: os.stat_result) -> None:
    try:
        os.fchown(fd, status.st_uid, status.st_gid)
    except OSError:
        pass  # an id the container does not have
    os.fchmod(fd, status.st_mode & 0o7777)
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def _give(name: str, directory: int, status: os.stat_result) -> None:
    try:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    except OSError:
        pass  # as above
