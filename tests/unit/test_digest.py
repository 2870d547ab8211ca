# SPDX-License-Identifier: Apache-2.0
"""Digests: which texts are one, and what they are of."""

from __future__ import annotations

import pytest

from rootless.errors import DigestMismatch, Invalid
from rootless.oci import digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_parse_gives_text_with_parts() -> None:
    found = digest.parse(EMPTY)
    assert found == EMPTY
    assert (found.algorithm, found.encoded) == ("sha256", EMPTY[7:])
    assert digest.parse("sha512:" + "0" * 128).algorithm == "sha512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY[7:],
        EMPTY.upper(),
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY[:-1] + "g",
        EMPTY[:-1] + "\n",
        "sha512:" + "0" * 64,
        "md5:" + "0" * 32,
        "sha256:../" + "0" * 61,
        "sha256 :" + "0" * 64,
        "blake3:" + "0" * 64,
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(Invalid):
        digest.parse(text)


def test_of_and_check() -> None:
    assert digest.of(b"") == EMPTY
    digest.check(EMPTY, digest.of(b""), "nothing")
    with pytest.raises(DigestMismatch, match=f"expected {EMPTY} got sha256:"):
        digest.check(EMPTY, digest.of(b"x"), "a blob")
    with pytest.raises(Invalid):
        digest.hasher("md5")
