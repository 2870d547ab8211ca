# SPDX-License-Identifier: Apache-2.0
"""Compression of layers that leave the store: gzip, zstd or none, the same bytes for the same input.

The other direction is `storage.compression`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import zstandard
from isal import isal_zlib

from rootless.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("gzip", "zstd", "uncompressed")
_GZIP_LEVELS, _ZSTD_LEVELS = range(10), range(1, 20)
_ISAL_LEVEL, _ZSTD_LEVEL = 2, 3  # by default: quick, for it is done again for each push
_GZIP_WINDOW = 31  # zlib.h, deflateInit2: 15 bits and 16 for a gzip header, which has no time in it


def compressor(kind: str, level: int | None = None) -> Compressor:
    """A compressor of one of KINDS; raises UsageError for a level that the kind does not have."""
    levels = {"gzip": _GZIP_LEVELS, "zstd": _ZSTD_LEVELS}.get(kind, range(0))
    if level is not None and level not in levels:
        words = f"takes levels {levels[0]} to {levels[-1]}" if levels else "has no levels"
        raise UsageError(f"invalid compression level {level}: {kind} {words}")
    if kind == "uncompressed":
        return Compressor(bytes, bytes)
    if kind == "zstd":
        # One thread: with more the result would depend on how many there are.
        engine: Any = zstandard.ZstdCompressor(level=level or _ZSTD_LEVEL).compressobj()
    elif level is None:
        engine = isal_zlib.compressobj(_ISAL_LEVEL, wbits=_GZIP_WINDOW)
    else:
        engine = zlib.compressobj(level, wbits=_GZIP_WINDOW)
    return Compressor(engine.compress, engine.flush)


class Compressor:
    """Turns a stream into its compressed form."""

    def __init__(self, add: Callable[[bytes], bytes], finish: Callable[[], bytes]) -> None:
        self.add = add  # what to write for these bytes, often nothing yet
        self.finish = finish  # what to write last
