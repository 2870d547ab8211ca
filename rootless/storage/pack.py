# SPDX-License-Identifier: Apache-2.0
"""Directory trees as tar archives, the same bytes for the same tree: the inverse of unpacking a layer.

Runs as the root of a user namespace, so owners are those inside. Whiteouts and opaque directories of
overlayfs become the image specification's marker files.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

from rootless.errors import Invalid
from rootless.linux import openat2
from rootless.runtime import userns
from rootless.storage import whiteouts, xattrs
from rootless.storage.compression import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless.runtime.idmap import IdMap

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_RESOLVE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_XDEV
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FLAGS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def packed(id_map: IdMap, directory: str) -> Iterator[bytes]:
    """The archive of `directory`, in pieces; raises OSError and Invalid of the packing process.

    Close the iterator to stop early.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    top = os.open(directory, flags)
    try:
        yield from packed_by(id_map, lambda: top)
    finally:
        os.close(top)


def packed_by(id_map: IdMap, opened: Callable[[], int]) -> Iterator[bytes]:
    """Like `packed`, for a tree that is only there in the packing process.

    `opened` is called in it, as the root of a user and a mount namespace, and gives a descriptor
    of the tree's top.
    """
    receiving, sending = socket.socketpair()

    def work() -> bytes:
        pack(opened(), sending.sendall)
        sending.shutdown(socket.SHUT_WR)
        return b""

    with receiving, sending:
        worker = userns.spawn(id_map, work)
        try:
            sending.close()
            while piece := receiving.recv(CHUNK):
                yield piece
            worker.wait()
        finally:
            worker.kill()


def pack(top: int, write: Callable[[bytes], object]) -> None:
    """Write the archive of the tree below the open directory `top`, files before directories.

    Names are in byte order. Sockets, and devices but whiteouts, are left out.
    """
    packer = _Packer(top, write)
    pending = [b""]
    while pending:
        path = pending.pop()
        pending += packer.add_directory(path)
    packer.finish()


class _Packer:
    def __init__(self, top: int, write: Callable[[bytes], object]) -> None:
        self._top = top
        self._write = write
        self._buffer = bytearray()
        self._names: dict[tuple[int, int], bytes] = {}  # first names of inodes that have several

    def add_directory(self, path: bytes) -> list[bytes]:
        """Write a directory and what is no directory in it; its directories, last one first."""
        fd = openat2.openat2(self._top, path or b".", os.O_RDONLY | os.O_DIRECTORY, 0, _RESOLVE)
        try:
            self._add_open(path + b"/" if path else b"./", fd)
            if whiteouts.is_opaque(fd):
                self._put(header(os.path.join(path, whiteouts.OPAQUE_MARK), b"0"))
            below = []
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                child = os.path.join(path, name)
                status = os.lstat(name, dir_fd=fd)
                if stat.S_ISDIR(status.st_mode):
                    below.append(child)
                else:
                    self._add(child, name, fd, status)
            return below[::-1]
        finally:
            os.close(fd)

    def finish(self) -> None:
        self._put(_END)
        self._flush()

    def _add(self, path: bytes, name: bytes, directory: int, status: os.stat_result) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if whiteouts.is_whiteout(status):
            parent = os.path.dirname(path)
            self._put(header(os.path.join(parent, whiteouts.MARK + name), b"0"))
            return
        if kind not in _FLAGS:
            return
        inode = (status.st_dev, status.st_ino)
        first = self._names.setdefault(inode, path) if status.st_nlink > 1 else path
        if first != path:
            self._put(header(path, b"1", status, link=first))
        elif kind == stat.S_IFREG:
            fd = os.open(name, _OPEN, dir_fd=directory)
            try:
                self._add_open(path, fd)
            finally:
                os.close(fd)
        else:
            link = os.readlink(name, dir_fd=directory) if kind == stat.S_IFLNK else b""
            self._put(header(path, _FLAGS[kind], status, link=link))

    def _add_open(self, path: bytes, fd: int) -> None:
        status = os.fstat(fd)
        told = {
            name: xattrs.portable(name, os.getxattr(fd, name))
            for name in sorted(map(os.fsencode, os.listxattr(fd)))
            if xattrs.is_portable(name)
        }
        flag = _FLAGS[stat.S_IFMT(status.st_mode)]
        self._put(header(path, flag, status, attributes=told))
        if flag == b"0":
            self._copy(fd, status.st_size, path)

    def _copy(self, fd: int, size: int, path: bytes) -> None:
        left = size
        while left:
            data = os.read(fd, min(left, CHUNK))
            if not data:
                raise Invalid(f"cannot pack {os.fsdecode(path)!r}: it became shorter meanwhile")
            left -= len(data)
            self._put(data)
        self._put(bytes(-size % _BLOCK))

    def _put(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._write(bytes(self._buffer))
            self._buffer.clear()


def header(
    name: bytes,
    flag: bytes,
    status: os.stat_result | None = None,
    *,
    link: bytes = b"",
    attributes: dict[bytes, bytes] | None = None,
) -> bytes:
    """The header blocks of one entry: ustar, after a PAX header for what ustar cannot say.

    Without `status` it is an empty file of root's, as markers are.
    """
    records = {b"SCHILY.xattr." + key: value for key, value in (attributes or {}).items()}
    short, prefix = _split(name)
    if not short:
        records[b"path"] = name
        short = name[:100]
    if len(link) > 100:
        records[b"linkpath"] = link
    size = status.st_size if status and flag == b"0" else 0
    numbers = {
        b"uid": (status.st_uid if status else 0, 8),
        b"gid": (status.st_gid if status else 0, 8),
        b"size": (size, 12),
        b"mtime": (int(status.st_mtime_ns // 10**9) if status else 0, 12),
    }
    fields = {}
    for key, (value, width) in numbers.items():
        if not 0 <= value < 8 ** (width - 1):
            records[key] = b"%d" % value
            value = 0
        fields[key] = b"%0*o\0" % (width - 1, value)
    mode = b"%07o\0" % (stat.S_IMODE(status.st_mode) if status else 0o644)
    block = _block((short, mode, *fields.values(), flag, link[:100], prefix))
    return (_extended(records) if records else b"") + block


def _split(name: bytes) -> tuple[bytes, bytes]:
    """(name, prefix) as the fields hold them; nothing when they cannot."""
    if len(name) <= 100:
        return name, b""
    slash = name.find(b"/", len(name) - 101, len(name) - 1)
    if 0 < slash <= 155:
        return name[slash + 1 :], name[:slash]
    return b"", b""


def _block(fields: tuple[bytes, ...]) -> bytes:
    name, mode, uid, gid, size, mtime, flag, link, prefix = fields
    block = (
        name.ljust(100, b"\0")
        + mode
        + uid
        + gid
        + size
        + mtime
        + b" " * 8
        + flag
        + link.ljust(100, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.ljust(155, b"\0")
    ).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _extended(records: dict[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    zero = b"0000000\0"
    size, time = b"%011o\0" % len(data), b"%011o\0" % 0
    block = _block((b"PaxHeaders.0/entry", b"0000644\0", zero, zero, size, time, b"x", b"", b""))
    return block + data + bytes(-len(data) % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """ "length key=value\\n", where the length counts its own digits."""
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)
