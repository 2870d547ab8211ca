# SPDX-License-Identifier: Apache-2.0
"""Decompression: every format by its magic, damage and truncation noticed, memory bounded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections import deque
from collections.abc import Callable, Iterator

import pytest
import zstandard

from rootless.errors import Invalid
from rootless.storage import compression
from rootless.storage.compression import CHUNK, Decompressed

DATA = random.Random(7).randbytes(300_000) + bytes(700_000)

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
COMPRESSED = sorted(set(FORMATS) - {"none"})


def stream(data: bytes, step: int = 65536) -> Decompressed:
    pieces = iter([data[start : start + step] for start in range(0, len(data), step)])
    return Decompressed(lambda: next(pieces, b""))


def decompress(data: bytes, step: int = 65536) -> bytes:
    return b"".join(stream(data, step))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("step", [1000, 65536, 1 << 22])
def test_round_trip(kind: str, step: int) -> None:
    data = FORMATS[kind](DATA)
    found = stream(data, step)
    chunks = list(found)
    assert b"".join(chunks) == DATA
    assert max(map(len, chunks)) <= CHUNK
    assert (found.kind, found.consumed, found.produced) == (kind, len(data), len(DATA))


@pytest.mark.parametrize("kind", FORMATS)
def test_single_bytes_are_enough(kind: str) -> None:
    assert decompress(FORMATS[kind](DATA[:2000]), 1) == DATA[:2000]


@pytest.mark.parametrize("kind", COMPRESSED)
def test_members_are_joined(kind: str) -> None:
    member = FORMATS[kind](b"one") + FORMATS[kind](b"") + FORMATS[kind](b"two")
    assert decompress(member) == decompress(member, 1) == b"onetwo"


@pytest.mark.parametrize("kind", COMPRESSED)
def test_truncation_is_noticed_at_any_place(kind: str) -> None:
    data = FORMATS[kind](DATA[290_000:310_000])
    for cut in {*range(7, 40), *range(40, len(data), 997), *range(len(data) - 20, len(data))}:
        with pytest.raises(Invalid, match=rf"damaged {kind} stream: .* at byte {cut}$"):
            decompress(data[:cut])


@pytest.mark.parametrize("kind", COMPRESSED)
def test_damage_is_noticed(kind: str) -> None:
    data = bytearray(FORMATS[kind](DATA[290_000:310_000]))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(Invalid, match=f"damaged {kind} stream"):
        decompress(bytes(data))


@pytest.mark.parametrize("kind", COMPRESSED)
def test_something_else_behind_is_refused(kind: str) -> None:
    with pytest.raises(Invalid, match=f"damaged {kind} stream"):
        decompress(FORMATS[kind](b"data") + b"trailing garbage")


def test_gzip_may_be_padded_with_zeros() -> None:
    assert decompress(FORMATS["gzip"](b"data") + bytes(1000)) == b"data"


def test_zstd_skippable_frames_are_skipped() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"
    data = skippable + FORMATS["zstd"](b"one") + skippable + FORMATS["zstd"](b"two")
    assert decompress(data) == decompress(data, 1) == b"onetwo"


def test_zstd_window_is_bounded() -> None:
    # Descriptor 0x00 (no sizes), window descriptor 0xA8: 2^31 bytes; then one last raw block.
    frame = b"\x28\xb5\x2f\xfd\x00\xa8" + (1).to_bytes(3, "little")
    with pytest.raises(Invalid, match="damaged zstd stream"):
        decompress(frame)


def bomb() -> Iterator[bytes]:
    """Endless zstd: blocks of one byte that is repeated 128 KiB times."""
    yield b"\x28\xb5\x2f\xfd\x00\x58"
    while True:
        yield ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"


def test_bomb_is_stopped() -> None:
    blocks = bomb()
    endless = Decompressed(lambda: next(blocks))
    with pytest.raises(Invalid, match="looks like a decompression bomb"):
        deque(endless, maxlen=0)
    assert endless.produced <= compression.RATIO_FROM + CHUNK


def test_empty_stream_is_empty() -> None:
    assert decompress(b"") == b""
