# SPDX-License-Identifier: Apache-2.0
"""Compressing a layer: what comes out goes in again, always the same, and levels are checked."""

from __future__ import annotations

import random

import pytest

from rootless.errors import UsageError
from rootless.images import manifests, outgoing
from rootless.images.manifests import Layer
from rootless.images.outgoing import Form
from rootless.oci import digest as digests
from rootless.oci import image
from rootless.storage import compress, compression
from tests.lib import archives

DATA = random.Random(7).randbytes(300_000) + b"rootless " * 100_000
NAMES = {"gzip": "gzip", "zstd": "zstd", "uncompressed": "none"}


def compressed(kind: str, level: int | None = None) -> bytes:
    engine = compress.compressor(kind, level)
    pieces = [engine.add(DATA[start : start + 70_000]) for start in range(0, len(DATA), 70_000)]
    return b"".join(pieces) + engine.finish()


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("gzip", None),
        ("gzip", 0),
        ("gzip", 9),
        ("zstd", None),
        ("zstd", 19),
        ("uncompressed", None),
    ],
)
def test_what_is_compressed_comes_back_and_is_always_the_same(kind: str, level: int | None) -> None:
    found = compressed(kind, level)
    assert compression.detect(found[:8]) == NAMES[kind]
    chunks = iter([found])
    assert b"".join(compression.Decompressed(lambda: next(chunks, b""))) == DATA
    assert compressed(kind, level) == found


@pytest.mark.parametrize(
    ("kind", "level"), [("gzip", 10), ("gzip", -1), ("zstd", 0), ("zstd", 20), ("uncompressed", 1)]
)
def test_level_that_does_not_exist_is_refused(kind: str, level: int) -> None:
    with pytest.raises(UsageError, match="invalid compression level"):
        compress.compressor(kind, level)


# -- which form the layers of an image take ---------------------------------------------------------


def made_here(media_type: str) -> manifests.Image:
    """An image without a manifest of its own, as of docker archives and of import."""
    data = b"layer"
    layer = Layer(digests.of(data), digests.of(data), len(data), media_type)
    return manifests.compose(archives.config([data]), (layer,), "test")


def test_what_was_put_together_here_is_compressed() -> None:
    assert outgoing.wanted_form(made_here(image.LAYER), None) == Form("gzip")
    assert outgoing.wanted_form(made_here(image.LAYER_GZIP), None) is None


def test_what_came_with_a_manifest_goes_as_it_came() -> None:
    found = made_here(image.LAYER)
    foreign = manifests.Image(
        {**found.descriptor, "digest": str(digests.of(b"theirs"))},
        b"theirs", found.config, found.config_digest, found.settings, found.layers,
    )  # fmt: skip
    assert outgoing.wanted_form(foreign, None) is None
    assert outgoing.wanted_form(foreign, Form("zstd")) == Form("zstd")


@pytest.mark.parametrize(
    ("media_type", "form", "changes"),
    [
        (image.LAYER, Form("gzip"), True),
        (image.LAYER_GZIP, Form("gzip"), False),
        (image.LAYER_GZIP, Form("gzip", 9), True),
        (image.LAYER_GZIP, Form("uncompressed"), True),
        (image.DOCKER_LAYER_GZIP, Form("gzip"), False),
        (image.DOCKER_LAYER, Form("uncompressed"), False),
        (image.LAYER_ZSTD, Form("zstd"), False),
    ],
)
def test_layer_in_another_form_is_changed(media_type: str, form: Form, changes: bool) -> None:
    layer = Layer(digests.of(b"x"), digests.of(b"x"), 1, media_type)
    assert outgoing.needs_change(layer, form) is changes


def test_image_with_other_layers_keeps_its_id_and_one_family_of_types() -> None:
    found = made_here(image.DOCKER_LAYER_GZIP)
    (layer,) = found.layers
    other = Layer(digests.of(b"other"), layer.diff_id, 5, image.LAYER_ZSTD)
    changed = outgoing.recomposed(found, (other,))
    assert changed.id == found.id
    assert changed.layers[0].digest == other.digest
    assert outgoing.recomposed(found, found.layers) is found
