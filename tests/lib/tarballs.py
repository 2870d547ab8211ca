# SPDX-License-Identifier: Apache-2.0
"""Tar archives made block by block, right or wrong in any way a test wants; nothing here reads one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

BLOCK = 512
END = bytes(2 * BLOCK)
POSIX = b"ustar\x0000"
GNU = b"ustar  \x00"

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % n for n in range(7))


def number(value: int, width: int) -> bytes:
    """A header field: octal, or base 256 where octal does not hold the value."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes(((value & (256**width - 1)) | 1 << (8 * width - 1)).to_bytes(width, "big"))


def header(
    name: bytes = b"file",
    kind: bytes = FILE,
    *,
    size: int | bytes = 0,
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
    mtime: int = 0,
    link: bytes = b"",
    form: tuple[bytes, bytes] = (POSIX, b""),
) -> bytes:
    """One header block; a `size` in bytes is written as it is.

    `form` is the magic, and what stands from the device numbers on.
    """
    fields = (
        name.ljust(100, b"\0")[:100],
        number(mode, 8),
        number(owner[0], 8),
        number(owner[1], 8),
        size.ljust(12, b"\0") if isinstance(size, bytes) else number(size, 12),
        number(mtime, 12),
        b" " * 8,
        kind,
        link.ljust(100, b"\0")[:100],
        form[0],
        bytes(64),
        form[1],
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return with_checksum(block, sum(block))


def with_checksum(block: bytes, total: int) -> bytes:
    """The header block with another checksum, right or wrong."""
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    """Data as whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: str | bytes, data: bytes = b"", **fields: object) -> bytes:
    """A regular file, header and data; the size is the data's unless `size` says otherwise."""
    fields.setdefault("size", len(data))
    return header(_bytes(name), FILE, **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: str | bytes, mode: int = 0o755, **fields: object) -> bytes:
    """A directory."""
    return header(_bytes(name), DIRECTORY, mode=mode, **fields)  # type: ignore[arg-type]


def symlink(name: str | bytes, target: str | bytes) -> bytes:
    """A symbolic link."""
    return header(_bytes(name), SYMLINK, mode=0o777, link=_bytes(target))


def link(name: str | bytes, target: str | bytes) -> bytes:
    """A hard link."""
    return header(_bytes(name), LINK, link=_bytes(target))


def record(key: str | bytes, value: str | bytes) -> bytes:
    """One PAX record with its right length."""
    body = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    length = len(body) + 1
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def pax(records: Mapping[str, str | bytes] | Iterable[bytes], kind: bytes = b"x") -> bytes:
    """A PAX extended header of records, given by name or ready-made."""
    if isinstance(records, Mapping):
        records = [record(key, value) for key, value in records.items()]
    data = b"".join(records)
    return header(b"PaxHeaders/x", kind, size=len(data)) + padded(data)


def gnu_long(text: bytes, kind: bytes = b"L") -> bytes:
    """GNU tar's header for a name (L) or a link target (K) that is too long for its field."""
    data = text + b"\0"
    return header(b"././@LongLink", kind, size=len(data), form=(GNU, b"")) + padded(data)


def archive(*members: bytes, end: bytes = END) -> bytes:
    """The whole archive."""
    return b"".join(members) + end


def diff_id(data: bytes) -> str:
    """The diff id of an uncompressed archive."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
