# SPDX-License-Identifier: Apache-2.0
"""A streaming reader of tar archives from strangers: ustar, PAX, GNU long names, sparse files.

Reads headers, hands out data in pieces, bounds everything; touches no file. Formats: POSIX.1-2017
pax(1), and "Basic Tar Format" and "Storing Sparse Files" of the GNU tar manual.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from zlib import adler32

from rootless.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE = "file"
DIRECTORY = "directory"
SYMLINK = "symbolic link"
LINK = "hard link"
FIFO = "fifo"
DEVICE = "device"

MAX_NAME = 4096
MAX_COMPONENT = 255
MAX_DEPTH = 1024
MAX_ENTRIES = 5_000_000
MAX_RECORD = 1 << 20  # bytes of one extended header, or of one sparse map
MAX_EXTENDED = 1 << 23  # bytes of all extended headers of one entry
MAX_EXTENTS = 1 << 16

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_INT = (1 << 63) - 1
_SECOND = 1_000_000_000
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SPARSE_PREFIX = b"GNU.sparse."
_XATTR_PREFIX = b"SCHILY.xattr."

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,  # "contiguous", which nobody provides for
    b"S": FILE,  # GNU sparse
    b"1": LINK,
    b"2": SYMLINK,
    b"3": DEVICE,
    b"4": DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
}


class Damaged(Invalid):
    """An archive breaks its format, or a limit of ours."""


class Entry:
    """One member of an archive.

    `name` and `link` are cleaned (see `clean`), but a symbolic link's `link` is verbatim. `size` is
    the file's, `mtime` is in nanoseconds. `extents`, of a sparse file, are the (offset, length)
    where data goes; the rest are holes.
    """

    __slots__ = ("extents", "gid", "kind", "link", "mode", "mtime", "name", "size", "uid", "xattrs")

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    xattrs: dict[bytes, bytes]
    extents: list[tuple[int, int]] | None


def clean(name: bytes, what: str = "name") -> bytes:
    """`name` without leading and double slashes and `.` components; empty for the root itself.

    Raises Damaged for what no layer may contain: `..`, NUL, nothing at all, and excessive lengths.
    """
    if not name:
        raise Damaged(f"an entry has an empty {what}")
    if len(name) > MAX_NAME:
        raise Damaged(f"a {what} has more than {MAX_NAME} bytes: {show(name)}")
    if b"\0" in name:
        raise Damaged(f"a {what} contains a NUL: {show(name)}")
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise Damaged(f"path escapes root: {show(name)}")
    if len(parts) > MAX_DEPTH:
        raise Damaged(f"a {what} has more than {MAX_DEPTH} components: {show(name)}")
    if parts and len(max(parts, key=len)) > MAX_COMPONENT:
        raise Damaged(f"a component of a {what} has more than {MAX_COMPONENT} bytes: {show(name)}")
    return b"/".join(parts)


def show(name: bytes) -> str:
    """A name for a message: quoted, escaped, and short."""
    shown = repr(name.decode("utf-8", "backslashreplace"))
    return shown if len(shown) <= 200 else shown[:200] + "..."


class Reader:
    """Iterates over the entries of an archive that comes as chunks of bytes.

    An entry's data is read with `data()` before the next entry is asked for; what is left of it is
    skipped. Raises Damaged, telling where. After the last entry `drain()` reads what trails.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._input = _Input(chunks)
        self._left = 0  # bytes of the current entry's data that nobody has read
        self._padding = 0
        self._entries = 0

    def __iter__(self) -> Iterator[Entry]:
        while True:
            try:
                entry = self._next()
            except Damaged as problem:
                raise Damaged(f"damaged tar archive: {problem.message}, {self._where()}") from None
            if entry is None:
                return
            yield entry
            self._skip_data()

    def data(self) -> Iterator[memoryview]:
        """The stored bytes of the current entry, in pieces that are valid until the next is asked for."""
        while self._left:
            piece = self._input.piece(self._left)
            if not piece:
                raise Damaged(f"damaged tar archive: it ends inside a file, {self._where()}")
            self._left -= len(piece)
            yield piece

    def drain(self) -> int:
        """Read to the end of the stream; the number of bytes after the archive's end."""
        before = self._input.offset
        while piece := self._input.piece(1 << 30):
            del piece
        return self._input.offset - before

    def _where(self) -> str:
        return f"at byte {self._input.offset}"

    def _skip_data(self) -> None:
        for _ in self.data():
            pass
        if self._padding:
            if not self._input.take(self._padding):
                raise Damaged(f"damaged tar archive: it ends inside a file, {self._where()}")
            self._padding = 0

    def _next(self) -> Entry | None:
        extended = _Extended()
        while True:
            block = self._input.block()
            if not block or block == _ZEROS:
                self._check_end(block, extended)
                return None
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise Damaged(f"more than {MAX_ENTRIES} entries")
            fields = _unpack(block)
            flag, stored = fields[7], _number(fields[4], "size")
            if flag in b"xgLKX":
                extended.add(flag, self._extended(stored))
                continue
            return self._entry(block, fields, stored, extended)

    def _check_end(self, block: bytes, extended: _Extended) -> None:
        if extended.length:
            raise Damaged("it ends after an extended header")
        if block:
            second = self._input.block()
            if second and second != _ZEROS:
                raise Damaged("data follows a lone block of zeros")

    def _extended(self, stored: int) -> bytes:
        if not 0 <= stored <= MAX_RECORD:
            raise Damaged(f"an extended header of {stored} bytes is larger than {MAX_RECORD}")
        data = self._input.take(stored + -stored % _BLOCK)
        if stored and not data:
            raise Damaged("it ends inside an extended header")
        return data[:stored]

    def _entry(
        self, block: bytes, fields: tuple[bytes, ...], stored: int, extended: _Extended
    ) -> Entry:
        flag = fields[7]
        kind = _KINDS.get(flag)
        name = _raw_name(fields)
        if kind is None:
            raise Damaged(f"unknown type {show(flag)} of {show(name)}")
        entry = Entry()
        entry.mode = _number(fields[1], "mode") & 0o7777
        entry.uid = _number(fields[2], "uid")
        entry.gid = _number(fields[3], "gid")
        entry.mtime = _clamp(_number(fields[5], "mtime") * _SECOND)
        entry.link = _text(fields[8])
        entry.xattrs = _NO_XATTRS
        if extended.length:
            stored = _override(entry, extended, stored)
            name = extended.name or extended.records.get(b"path", name)
        if flag == b"\0" and name.endswith(b"/"):
            kind = DIRECTORY  # how tar wrote directories before it had a type for them
        entry.kind, entry.size, entry.extents = kind, 0, None
        if kind is FILE:
            name = self._open_file(entry, (name, stored), block, extended)
        elif kind is LINK:
            entry.link = clean(entry.link, "target of a hard link")
        elif kind is SYMLINK:
            _check_target(entry.link, name)
        entry.name = clean(name)
        return entry

    def _open_file(
        self, entry: Entry, found: tuple[bytes, int], block: bytes, extended: _Extended
    ) -> bytes:
        """Make the data of a file the current one, with its map if it is sparse; the file's name."""
        name, stored = found
        if stored < 0:
            raise Damaged(f"negative size of {show(name)}")
        entry.size = self._left = stored
        self._padding = -stored % _BLOCK
        if block[156:157] == b"S":
            self._read_gnu_sparse(entry, block)
        elif any(key.startswith(_SPARSE_PREFIX) for key in extended.records):
            self._read_pax_sparse(entry, extended)
            name = extended.records.get(b"GNU.sparse.name", name)
        return name

    # -- sparse files -----------------------------------------------------------------------------

    def _read_gnu_sparse(self, entry: Entry, block: bytes) -> None:
        """The old format: four extents in the header, then blocks of 21 while a flag says so."""
        numbers = _sparse_numbers(block[386:482])
        size, is_extended = _number(block[483:495], "size of a sparse file"), block[482]
        while is_extended:
            block = self._input.block()
            if not block:
                raise Damaged("it ends inside a sparse map")
            numbers += _sparse_numbers(block[:504])
            _check_count(len(numbers) // 2)
            is_extended = block[504]
        self._set_extents(entry, size, numbers)

    def _read_pax_sparse(self, entry: Entry, extended: _Extended) -> None:
        records = extended.records
        size = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size", b""))
        if records.get(b"GNU.sparse.major") == b"1":
            numbers = self._read_sparse_data()
        elif b"GNU.sparse.map" in records:
            numbers = [_decimal(each) for each in records[b"GNU.sparse.map"].split(b",") if each]
        else:
            numbers = [_decimal(each) for each in extended.sparse]
        self._set_extents(entry, _decimal(size), numbers)

    def _read_sparse_data(self) -> list[int]:
        """Version 1.0: the count, then offsets and lengths, one number a line, before the data."""
        text, wanted = b"", 1
        while True:
            lines = text.split(b"\n")
            if len(lines) > wanted:
                count = _decimal(lines[0])
                _check_count(count)
                wanted = 1 + 2 * count
                if len(lines) > wanted:
                    return [_decimal(line) for line in lines[1:wanted]]
            block = self._input.block() if self._left >= _BLOCK else b""
            if not block or len(text) > MAX_RECORD:
                raise Damaged("a sparse map is damaged")
            self._left -= _BLOCK
            text += block

    def _set_extents(self, entry: Entry, size: int, numbers: list[int]) -> None:
        if len(numbers) % 2:
            raise Damaged("a sparse map has an offset without a length")
        extents = list(zip(numbers[::2], numbers[1::2], strict=True))
        _check_count(len(extents))
        position = 0
        for offset, length in extents:
            if length < 0 or offset < position or offset + length > size:
                raise Damaged("a sparse map does not ascend inside the file")
            position = offset + length
        if sum(length for _, length in extents) != self._left:
            raise Damaged("a sparse map does not fit the data")
        entry.size = size
        entry.extents = extents


_NO_XATTRS: dict[bytes, bytes] = {}


class _Extended:
    """What extended headers say about the entry that follows them."""

    __slots__ = ("length", "link", "name", "records", "sparse")

    def __init__(self) -> None:
        self.length = 0
        self.name = b""
        self.link = b""
        self.records: dict[bytes, bytes] = {}
        self.sparse: list[bytes] = []  # of version 0.0, whose records repeat

    def add(self, flag: bytes, data: bytes) -> None:
        self.length += _BLOCK + len(data)
        if self.length > MAX_EXTENDED:
            raise Damaged(f"extended headers of one entry are larger than {MAX_EXTENDED} bytes")
        if flag == b"L":
            self.name = data.partition(b"\0")[0]
        elif flag == b"K":
            self.link = data.partition(b"\0")[0]
        elif flag in b"xX":
            self.records, self.sparse = {}, []
            self._parse(data)
        # Global headers ("g") could rename everything that follows; nobody writes layers with one.

    def _parse(self, data: bytes) -> None:
        """Records of the form "length key=value\\n"; see pax(1), "pax Header Block"."""
        position, end = 0, len(data)
        while position < end:
            space = data.find(b" ", position, position + 20)
            digits = data[position:space]
            if space < 0 or not digits.isdigit():
                raise Damaged("a PAX record has no length")
            after = position + int(digits)
            if after > end or after - 1 <= space or data[after - 1 : after] != b"\n":
                raise Damaged("a PAX record has a wrong length")
            key, equals, value = data[space + 1 : after - 1].partition(b"=")
            if not equals or not key:
                raise Damaged("a PAX record has no key")
            self._record(key, value)
            position = after

    def _record(self, key: bytes, value: bytes) -> None:
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (key == b"GNU.sparse.offset") == bool(len(self.sparse) % 2):
                raise Damaged("a sparse map has an offset without a length")
            self.sparse.append(value)
            _check_count(len(self.sparse) // 2)
            self.records[key] = b""
        elif value or key.startswith(_XATTR_PREFIX):
            self.records[key] = value
        else:
            self.records.pop(key, None)  # an empty value withdraws an earlier one


class _Input:
    """Chunks of any length, taken as blocks, stretches and pieces."""

    __slots__ = ("_chunk", "_chunks", "_position", "offset")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._position = 0
        self.offset = 0  # bytes handed out

    def block(self) -> bytes:
        """The next 512 bytes; nothing at the end."""
        start = self._position
        end = start + _BLOCK
        if end <= len(self._chunk):
            self._position = end
            self.offset += _BLOCK
            return self._chunk[start:end]
        found = self.take(_BLOCK)
        if not found and self._position < len(self._chunk):
            raise Damaged("it ends inside a block")
        return found

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes; nothing when there are fewer."""
        rest = len(self._chunk) - self._position
        if rest < size:
            parts = [self._chunk[self._position :]]
            while rest < size:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                parts.append(chunk)
                rest += len(chunk)
            self._chunk, self._position = b"".join(parts), 0
            if rest < size:
                return b""
        start = self._position
        self._position += size
        self.offset += size
        return self._chunk[start : self._position]

    def piece(self, limit: int) -> memoryview:
        """Up to `limit` bytes, without copying; nothing at the end."""
        if self._position == len(self._chunk):
            self._chunk, self._position = next(self._chunks, b""), 0
        start = self._position
        self._position = min(start + limit, len(self._chunk))
        self.offset += self._position - start
        return memoryview(self._chunk)[start : self._position]


# -- fields -----------------------------------------------------------------------------------------


def _unpack(block: bytes) -> tuple[bytes, ...]:
    """The fields of a header whose checksum is right."""
    fields: tuple[bytes, ...] = _HEADER.unpack(block)
    stated = _number(fields[6], "checksum")
    # The sum counts its own field as spaces, which is 256. Adler-32's low half is one more than the
    # sum of up to 256 bytes: two C calls instead of 512 additions in Python.
    halves = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    if stated != halves - sum(fields[6]) + 256 and stated != _signed_sum(block):
        raise Damaged("a header's checksum is wrong")
    return fields


def _signed_sum(block: bytes) -> int:
    """The checksum as tars on machines with signed characters computed it."""
    counted = block[:148] + b" " * 8 + block[156:]
    return sum(struct.unpack("512b", counted))


def _raw_name(fields: tuple[bytes, ...]) -> bytes:
    name = _text(fields[0])
    if fields[9] == b"ustar\x0000":  # GNU's magic is another, and its prefix has another use
        prefix = _text(fields[14])
        if prefix:
            return prefix + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _check_target(target: bytes, name: bytes) -> None:
    """A symbolic link is data, not a path: anything that the kernel can store."""
    if not target or b"\0" in target or len(target) >= MAX_NAME:
        raise Damaged(f"the symbolic link {show(name)} has no possible target")


def _number(field: bytes, what: str) -> int:
    """Octal text, or two's complement in base 256 where the first bit is set (GNU, star)."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        if field[0] & 0x40:
            value -= 1 << bits
        if not -_MAX_INT <= value <= _MAX_INT:
            raise Damaged(f"a {what} is out of range")
        return value
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    # int() alone would take signs, underscores and "0o".
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise Damaged(f"a {what} is not octal: {show(text)}")
    return int(text, 8)


def _decimal(text: bytes) -> int:
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19:
        raise Damaged(f"not a number: {show(text)}")
    return int(text)


def _time(text: bytes) -> int:
    """Nanoseconds of a PAX time, clamped to 64 bits; what is not a time at all raises Damaged."""
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if digits.isdigit() and (not fraction or fraction.isdigit()) and len(digits) < 20:
        nanoseconds = int(digits) * _SECOND + int((fraction + b"0" * 9)[:9])
        return _clamp(-nanoseconds if whole.startswith(b"-") else nanoseconds)
    try:
        seconds = float(text)
    except ValueError:
        raise Damaged(f"not a time: {show(text)}") from None
    if seconds != seconds:
        return 0
    return _MAX_INT if seconds > 0 else -_MAX_INT


def _clamp(nanoseconds: int) -> int:
    return max(-_MAX_INT, min(nanoseconds, _MAX_INT))


def _override(entry: Entry, extended: _Extended, stored: int) -> int:
    """Let extended headers replace the header's fields; the size that counts."""
    for key, value in extended.records.items():
        if key == b"linkpath":
            entry.link = value
        elif key == b"size":
            stored = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime = _time(value)
        elif key.startswith(_XATTR_PREFIX):
            if entry.xattrs is _NO_XATTRS:
                entry.xattrs = {}
            entry.xattrs[key[len(_XATTR_PREFIX) :]] = value
    entry.link = extended.link or entry.link
    return stored


def _sparse_numbers(area: bytes) -> list[int]:
    """Offsets and lengths of 12 bytes each, up to the first unused pair."""
    numbers = []
    for start in range(0, len(area), 24):
        pair = area[start : start + 24]
        if pair[0] == 0 or pair[12] == 0:
            break
        numbers += [_number(pair[:12], "sparse offset"), _number(pair[12:], "sparse length")]
    return numbers


def _check_count(extents: int) -> None:
    if not 0 <= extents <= MAX_EXTENTS:
        raise Damaged(f"a sparse map has more than {MAX_EXTENTS} extents")
