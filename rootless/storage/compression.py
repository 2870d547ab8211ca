# SPDX-License-Identifier: Apache-2.0
"""Decompression of layers as they stream in: told by their first bytes, bounded, truncation noticed.

Media types lie, so only magic numbers count. Memory is bounded whatever the input asks for.
"""

from __future__ import annotations

import bz2
import lzma
from typing import IO, TYPE_CHECKING, Protocol, cast

import zstandard
from isal import igzip_lib

from rootless.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 18  # what passes from stage to stage: small enough to stay in the processor's cache
MAX_WINDOW = 1 << 27  # bytes of history a decoder may ask for
MAX_RATIO = 1000  # deflate reaches 1032 on zeros; real layers stay below 100
RATIO_FROM = 1 << 26  # bytes decompressed before the ratio means anything

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAGIC = (
    ("gzip", b"\x1f\x8b"),
    ("zstd", _ZSTD_MAGIC),
    ("bzip2", b"BZh"),
    ("xz", b"\xfd7zXZ\x00"),
)
_FIRST = {name: magic[:1] for name, magic in _MAGIC}


class _Decoder(Protocol):
    """What the decoders of bz2, lzma and igzip_lib have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def detect(start: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz` or `none`, by the first six bytes."""
    for name, magic in _MAGIC:
        if start.startswith(magic):
            return name
    return "zstd" if _is_skippable(start) else "none"


class Decompressed:
    """Iterates over the decompressed chunks of a stream; each has at most CHUNK bytes.

    `read` returns some bytes of the stream, none at its end. `consumed` and `produced` count bytes
    on either side. Iterating raises Invalid for damaged, truncated and bomb-like streams.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self.kind = ""
        self.consumed = 0
        self.produced = 0

    def __iter__(self) -> Iterator[bytes]:
        start = self._take()
        while len(start) < 6 and (more := self._take()):
            start += more
        self.kind = detect(start)
        for chunk in self._chunks(start):
            self.produced += len(chunk)
            if self.produced > RATIO_FROM and self.produced > MAX_RATIO * self.consumed:
                raise Invalid(
                    f"{self.consumed} bytes of {self.kind} became more than {self.produced}:"
                    " this looks like a decompression bomb"
                )
            yield chunk

    def _take(self) -> bytes:
        data = self._read()
        self.consumed += len(data)
        return data

    def _chunks(self, start: bytes) -> Iterator[bytes]:
        if self.kind == "none":
            return self._plain(start)
        if self.kind == "zstd":
            return self._zstd(start)
        return self._members(start)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            for position in range(0, len(data), CHUNK):
                yield data[position : position + CHUNK]
            data = self._take()

    def _members(self, data: bytes) -> Iterator[bytes]:
        """gzip, bzip2 and xz: streams that may be concatenated, and padded with zeros."""
        while data:
            decoder = _decoder(self.kind)
            while not decoder.eof:
                if decoder.needs_input and not data and not (data := self._take()):
                    raise self._bad("it ends too early")
                chunk = self._decode(decoder, data)
                data = b""
                if chunk:
                    yield chunk
            data = self._next_member(decoder.unused_data or self._take())

    def _decode(self, decoder: _Decoder, data: bytes) -> bytes:
        try:
            return decoder.decompress(data, CHUNK)
        except MemoryError:
            raise
        except Exception as problem:  # IsalError, LZMAError, OSError, EOFError: all mean one thing
            raise self._bad(str(problem).lower() or type(problem).__name__) from None

    def _next_member(self, data: bytes) -> bytes:
        while data and not (data := data.lstrip(b"\0")):
            data = self._take()
        if data and data[:1] != _FIRST[self.kind]:
            raise self._bad("something else follows it")
        return data

    def _zstd(self, start: bytes) -> Iterator[bytes]:
        source = _ZstdSource(start, self._take)
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        reader = decoder.stream_reader(
            cast("IO[bytes]", source), read_size=CHUNK, read_across_frames=True
        )
        while True:
            try:
                chunk = reader.read(CHUNK)
            except zstandard.ZstdError as problem:
                raise self._bad(str(problem)) from None
            if not chunk:
                break
            yield chunk
        if not source.complete:
            raise self._bad("it ends too early")

    def _bad(self, reason: str) -> Invalid:
        return Invalid(f"damaged {self.kind} stream: {reason}, at byte {self.consumed}")


def _decoder(kind: str) -> _Decoder:
    if kind == "gzip":
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW)


def _is_skippable(start: bytes) -> bool:
    return len(start) >= 4 and start[0] & 0xF0 == 0x50 and start[1:4] == b"\x2a\x4d\x18"


class _ZstdSource:
    """Feeds a zstd decoder, and follows the frames (RFC 8878, section 3.1) beside it.

    The decoder takes an end inside a frame for an end; only the framing tells them apart.
    """

    def __init__(self, start: bytes, take: Callable[[], bytes]) -> None:
        self._start = start
        self._take = take
        self._skip = 0
        self._held = b""
        self._wanted = 4
        self._parse: Callable[[bytes], None] = self._magic
        self._has_checksum = False

    @property
    def complete(self) -> bool:
        """True between frames."""
        return not self._skip and not self._held and self._parse == self._magic

    def read(self, size: int = -1) -> bytes:
        """Some bytes; the decoder's `size` is a wish."""
        data, self._start = self._start or self._take(), b""
        self._follow(data)
        return data

    def _follow(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
            else:
                step = min(self._wanted - len(self._held), end - position)
                self._held += data[position : position + step]
                if len(self._held) == self._wanted:
                    held, self._held = self._held, b""
                    self._parse(held)
            position += step

    def _expect(self, wanted: int, parse: Callable[[bytes], None]) -> None:
        self._wanted, self._parse = wanted, parse

    def _magic(self, held: bytes) -> None:
        if _is_skippable(held):
            self._expect(4, self._skippable)
        else:
            self._expect(1, self._descriptor)

    def _skippable(self, held: bytes) -> None:
        self._skip = int.from_bytes(held, "little")
        self._expect(4, self._magic)

    def _descriptor(self, held: bytes) -> None:
        flags = held[0]
        is_single_segment = flags >> 5 & 1
        self._has_checksum = bool(flags & 4)
        window = 1 - is_single_segment
        dictionary = (0, 1, 2, 4)[flags & 3]
        content_size = (is_single_segment, 2, 4, 8)[flags >> 6]
        self._skip = window + dictionary + content_size
        self._expect(3, self._block)

    def _block(self, held: bytes) -> None:
        header = int.from_bytes(held, "little")
        is_last, kind, size = header & 1, header >> 1 & 3, header >> 3
        self._skip = 1 if kind == 1 else size  # kind 1: one byte, repeated `size` times
        if not is_last:
            self._expect(3, self._block)
            return
        self._skip += 4 * self._has_checksum
        self._expect(4, self._magic)
