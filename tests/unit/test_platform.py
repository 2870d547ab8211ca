# SPDX-License-Identifier: Apache-2.0
"""Platforms: one spelling for many, and the choice from an index."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import Invalid, NotFound
from rootless.oci import platform
from rootless.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("x86-64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("armhf", "linux/arm"),
        ("armel", "linux/arm/v6"),
        ("armv6l", "linux/arm/v6"),
        ("linux/arm/v7", "linux/arm"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
        ("linux/riscv64", "linux/riscv64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_spellings(text: str, normal: str) -> None:
    assert str(platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "linux/", "/amd64", "a/b/c/d", "linux amd64", "linux/../x"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(Invalid):
        platform.parse(text)


def test_host_is_linux_on_something() -> None:
    assert platform.host().os == "linux"
    assert platform.host().architecture


def entry(text: str) -> dict[str, Any]:
    system, architecture, *variant = text.split("/")
    found = {"os": system, "architecture": architecture}
    return {"digest": text, "platform": {**found, "variant": variant[0]} if variant else found}


def index(*texts: str) -> list[dict[str, Any]]:
    return [entry(text) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("linux/amd64", ("linux/arm64", "linux/amd64"), "linux/amd64"),
        ("linux/amd64", ("linux/amd64/v1",), "linux/amd64/v1"),
        ("linux/amd64/v3", ("linux/amd64", "linux/amd64/v2"), "linux/amd64/v2"),
        ("linux/amd64/v3", ("linux/amd64/v4", "linux/amd64"), "linux/amd64"),
        ("linux/amd64", ("linux/386",), "linux/386"),
        ("linux/arm64", ("linux/arm64/v8",), "linux/arm64/v8"),
        ("linux/arm/v7", ("linux/arm/v5", "linux/arm/v6"), "linux/arm/v6"),
        ("linux/arm/v6", ("linux/arm/v7", "linux/arm/v5"), "linux/arm/v5"),
        ("linux/amd64", ("unknown/unknown", "linux/amd64"), "linux/amd64"),
        ("linux/amd64", ("linux/amd64", "linux/amd64"), "linux/amd64"),
    ],
)
def test_choice(wanted: str, available: tuple[str, ...], chosen: str) -> None:
    assert platform.choose(index(*available), platform.parse(wanted))["digest"] == chosen


def test_no_match_lists_what_there_is() -> None:
    manifests = index("linux/arm64/v8", "linux/s390x", "unknown/unknown")
    with pytest.raises(
        NotFound, match="no image for linux/amd64: there is linux/arm64, linux/s390x"
    ):
        platform.choose(manifests, Platform("linux", "amd64"))
    with pytest.raises(NotFound, match="no platform named"):
        platform.choose([], Platform("linux", "amd64"))


def test_single_entry_without_platform_is_chosen() -> None:
    assert platform.choose([{"digest": "only"}], Platform("linux", "amd64"))["digest"] == "only"
