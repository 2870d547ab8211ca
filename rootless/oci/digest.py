# SPDX-License-Identifier: Apache-2.0
"""Digests as names of bytes: parsing them, and the hash functions behind them.

Image specification, descriptor.md, "Digests". Only algorithms whose bytes we can check are accepted.
"""

from __future__ import annotations

from rootless.errors import DigestMismatch, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hasher(Protocol):
        """What hashlib's objects offer, as far as it is used here."""

        def update(self, data: bytes | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...


HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """A checked `algorithm:encoded` text; behaves as that text."""

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]


def parse(text: str) -> Digest:
    """The digest that `text` spells; raises Invalid for any other text.

    Nothing of a checked digest can leave a directory when it is used as a file name.
    """
    algorithm, colon, encoded = text.partition(":")
    length = HEX_LENGTHS.get(algorithm)
    if not colon:
        raise Invalid(f"not a digest: {text[:200]!r}: there is no algorithm before a colon")
    if length is None:
        raise Invalid(
            f"unsupported digest algorithm: {algorithm[:200]!r}", hint="use sha256 or sha512"
        )
    if len(encoded) != length or not _HEX.issuperset(encoded):
        raise Invalid(
            f"not a digest: {text[:200]!r}: {algorithm} has {length} lower-case hex digits"
        )
    return Digest(text)


def hasher(algorithm: str = "sha256") -> Hasher:
    """A fresh hash object of a supported algorithm."""
    import hashlib  # cold; the grammar above is also used on the way to a container

    if algorithm not in HEX_LENGTHS:
        raise Invalid(f"unsupported digest algorithm: {algorithm!r}", hint="use sha256 or sha512")
    return hashlib.new(algorithm)


def of(data: bytes, algorithm: str = "sha256") -> Digest:
    """The digest of bytes in memory."""
    hashing = hasher(algorithm)
    hashing.update(data)
    return Digest(f"{algorithm}:{hashing.hexdigest()}")


def check(expected: str, found: str, what: str) -> None:
    """Raise DigestMismatch unless both are the same digest; `what` names the bytes."""
    if expected != found:
        raise DigestMismatch(
            f"{what} is not what its digest promises: expected {expected} got {found}"
        )
