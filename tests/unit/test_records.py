# SPDX-License-Identifier: Apache-2.0
"""The store's memory of images: names, ids, prefixes, and the OCI index derived from them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from rootless.errors import NotFound, UsageError
from rootless.images import records
from rootless.oci import document
from rootless.paths import Paths
from rootless.storage import store
from tests.lib.together import at_once

A, B = "sha256:" + "a1" * 32, "sha256:" + "a2" * 32
DIGEST = "sha256:" + "d" * 64


def record(image_id: str) -> dict[str, Any]:
    return {
        "id": image_id,
        "created": "2024-01-01T00:00:00Z",
        "platform": {"os": "linux", "architecture": "amd64"},
        "config": {"Cmd": ["sh"]},
        "manifest": {"mediaType": "m", "digest": DIGEST, "size": 7},
        "layers": [],
        "size": 5,
    }


@pytest.fixture
def filled(paths: Paths) -> Paths:
    store.open_store(paths)
    for image_id in (A, B):
        records.save(paths, record(image_id))
    records.tag(paths, "docker.io/library/debian:12", A, DIGEST)
    records.tag(paths, "example.org:5000/a/b:latest", B)
    return paths


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("debian:12", A),
        ("docker.io/library/debian:12", A),
        (f"debian@{DIGEST}", A),
        (f"debian:whatever@{DIGEST}", A),
        ("example.org:5000/a/b", B),
        (A, A),
        (A[7:], A),
        ("a1", A),
        ("sha256:a2a2", B),
    ],
)
def test_find_by_name_id_and_prefix(filled: Paths, text: str, found: str) -> None:
    assert records.get(filled, text)["id"] == found


@pytest.mark.parametrize(
    "text",
    [
        "debian",
        "Debian:12",
        "",
        "a3",
        "sha256:",
        "sha256:zz",
        f"fedora@{DIGEST}",
        "../images/x",
        "b" * 64,
    ],
)
def test_find_of_what_is_not_there_is_none(filled: Paths, text: str) -> None:
    assert records.find(filled, text) is None
    with pytest.raises(NotFound, match="no such image") as raised:
        records.get(filled, text)
    assert raised.value.hint == f"rootless pull {text}"


def test_prefix_of_several_ids_is_refused(filled: Paths) -> None:
    with pytest.raises(UsageError, match="a begins 2 image ids"):
        records.find(filled, "a")


def test_name_wins_over_prefix(filled: Paths) -> None:
    records.tag(filled, "docker.io/library/a1:latest", B)
    assert records.get(filled, "a1")["id"] == B


def test_tag_moves(filled: Paths) -> None:
    records.tag(filled, "docker.io/library/debian:12", B)
    assert records.get(filled, "debian:12")["id"] == B


def test_index_lists_each_reference(filled: Paths) -> None:
    index = document.load(filled.index)
    names = [
        entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]
    ]
    assert names == ["docker.io/library/debian:12", "example.org:5000/a/b:latest"]
    records.untag(filled, "docker.io/library/debian:12")
    assert len(document.load(filled.index)["manifests"]) == 1


def test_untag_of_unknown_is_not_found(filled: Paths) -> None:
    with pytest.raises(NotFound):
        records.untag(filled, "docker.io/library/nothing:1")


def test_reference_to_an_image_that_is_gone_finds_nothing(filled: Paths) -> None:
    records.delete(filled, A)
    assert records.find(filled, "debian:12") is None
    records.write_index(filled)
    assert len(document.load(filled.index)["manifests"]) == 1


def test_nothing_is_left_in_tmp(filled: Paths) -> None:
    assert os.listdir(filled.tmp) == []


def test_failed_write_leaves_the_old_file(filled: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        records.tag(filled, "docker.io/library/debian:12", B)
    assert records.get(filled, "debian:12")["id"] == A
    assert os.listdir(filled.tmp) == []


def test_index_is_whole_after_many_writers(filled: Paths) -> None:
    def tag_many(number: int) -> None:
        for count in range(20):
            records.tag(filled, f"docker.io/library/n{number}:{count}", A)

    at_once(3, tag_many)
    assert len(document.load(filled.index)["manifests"]) == 62
