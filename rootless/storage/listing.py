# SPDX-License-Identifier: Apache-2.0
"""One digest for everything about an unpacked layer, so that a later look can tell whether it changed.

It covers names, kinds, owners, modes, times, links, the attributes that layers carry, and a CRC-32
of each file's content: against decay and accidents, not against somebody who owns the store.
"""

from __future__ import annotations

import os
import stat
import zlib
from typing import TYPE_CHECKING

from rootless.oci import digest as digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.oci.digest import Hasher

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 18


def digest(root: int, checksums: Mapping[int, int] | None = None) -> str:
    """The digest of the tree below the open directory `root`; runs as the root of its id map.

    `checksums` are CRC-32s by inode that are known already: those files are not read. Nobody else may
    change the tree meanwhile. Changes the working directory. Raises OSError.
    """
    lister = _Lister(checksums or {})
    os.fchdir(root)
    lister.add(b".", os.lstat(b"."))
    # A walk by single names and "..": a tree may be deeper than any path can say.
    todo = [lister.directories()]
    while todo:
        if not todo[-1]:
            todo.pop()
            lister.leave()
            if todo:
                os.chdir(b"..")
            continue
        name = todo[-1].pop()
        lister.add(name, os.lstat(name))
        fd = os.open(name, _OPEN | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
        todo.append(lister.directories())
    return f"sha256:{lister.hashing.hexdigest()}"


class _Lister:
    """Takes in what is in the working directory."""

    def __init__(self, checksums: Mapping[int, int]) -> None:
        self.hashing: Hasher = digests.hasher()
        self._checksums = checksums
        self._links: dict[int, int] = {}  # inodes with several names, by the order they were met in

    def directories(self) -> list[bytes]:
        """Take in all but the directories; their names, the last one first."""
        found = []
        for name in sorted(map(os.fsencode, os.listdir(b"."))):
            status = os.lstat(name)
            if stat.S_ISDIR(status.st_mode):
                found.append(name)
            else:
                self.add(name, status)
        return found[::-1]

    def add(self, name: bytes, status: os.stat_result) -> None:
        """Take in one entry."""
        told = b"%d %d %o %d" % (status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns)
        self._put(name, told, self._content(name, status), *_attributes(name))

    def leave(self) -> None:
        """The directory has nothing more."""
        self._put(b"/")

    def _content(self, name: bytes, status: os.stat_result) -> bytes:
        if stat.S_ISDIR(status.st_mode):
            return b""
        if status.st_nlink > 1:
            number = len(self._links)
            first = self._links.setdefault(status.st_ino, number)
            if first != number:
                return b"link %d" % first
        if stat.S_ISLNK(status.st_mode):
            return b"to " + os.readlink(name)
        if not stat.S_ISREG(status.st_mode):
            return b"device %d" % status.st_rdev
        checksum = self._checksums.get(status.st_ino)
        return b"crc %d size %d" % (_crc(name) if checksum is None else checksum, status.st_size)

    def _put(self, *fields: bytes) -> None:
        # Lengths before fields: no field can pretend to be two.
        self.hashing.update(b"".join(b"%d:%s" % (len(field), field) for field in fields) + b"\n")


def _attributes(name: bytes) -> list[bytes]:
    """The attributes an archive may give; labels of the host's are its own affair."""
    try:
        found = sorted(map(os.fsencode, os.listxattr(name, follow_symlinks=False)))
    except OSError:
        return []
    return [
        key + b"=" + os.getxattr(name, key, follow_symlinks=False)
        for key in found
        if key.startswith(b"user.") or key == b"security.capability"
    ]


def _crc(name: bytes) -> int:
    fd = os.open(name, _OPEN)
    try:
        checksum = 0
        while data := os.read(fd, _CHUNK):
            checksum = zlib.crc32(data, checksum)
        return checksum
    finally:
        os.close(fd)
