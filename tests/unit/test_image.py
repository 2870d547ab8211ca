# SPDX-License-Identifier: Apache-2.0
"""Manifests, indexes and configs: good ones pass, bad ones are refused by the path of the field."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from rootless.errors import DigestMismatch, Invalid
from rootless.oci import digest, image

DIGEST = digest.of(b"bytes")


def descriptor(media_type: str, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 5, **fields}


MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": image.MANIFEST,
    "config": descriptor(image.CONFIG),
    "layers": [descriptor(image.LAYER_GZIP), descriptor(image.LAYER_ZSTD)],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "manifests": [
        descriptor(image.MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        descriptor("application/vnd.example.unknown"),
    ],
}
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "EMPTY="], "Cmd": ["sh"], "Entrypoint": None, "Labels": None},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST, DIGEST]},
    "history": None,
}
CHECKS = {
    "manifest": (MANIFEST, image.check_manifest),
    "index": (INDEX, image.check_index),
    "config": (CONFIG, image.check_config),
}
ABSENT = object()


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a dotted path replaced, added or taken away."""
    found = copy.deepcopy(document)
    node: Any = found
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key)] if key.isdecimal() else node[key]
    if value is ABSENT:
        del node[last]
    else:
        node[int(last) if last.isdecimal() else last] = value
    return found


def test_good_documents_pass() -> None:
    for document, check in CHECKS.values():
        checked: object = check(document, "it")
        assert checked is document
    docker = changed(MANIFEST, "mediaType", image.DOCKER_MANIFEST)
    docker = changed(docker, "config.mediaType", image.DOCKER_CONFIG)
    image.check_manifest(changed(docker, "layers.0.mediaType", image.DOCKER_LAYER_GZIP), "it")
    image.check_manifest(changed(MANIFEST, "layers", []), "it")
    image.check_manifest(changed(MANIFEST, "unheard", {"of": 1}), "it")
    image.check_config(changed(CONFIG, "config", ABSENT), "it")


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("manifest", "schemaVersion", ABSENT, "schemaVersion: expected 2, got nothing"),
        ("manifest", "schemaVersion", 2.0, "schemaVersion: expected 2"),
        ("manifest", "schemaVersion", True, "schema 1 is not supported"),
        ("manifest", "mediaType", image.INDEX, "is called"),
        ("manifest", "mediaType", image.CONFIG, "mediaType: it is called"),
        ("manifest", "mediaType", ["x"], "mediaType"),
        ("manifest", "config", ABSENT, "config: expected an object, got nothing"),
        ("manifest", "config", [], "config: expected an object, got a list"),
        ("manifest", "config.mediaType", "application/vnd.cncf.helm.config.v1+json", "helm"),
        ("manifest", "config.size", -1, "config.size: expected a number of bytes, got -1"),
        ("manifest", "config.size", ABSENT, "config.size"),
        ("manifest", "config.size", True, "config.size"),
        ("manifest", "config.size", 5.0, "config.size"),
        ("manifest", "config.size", 1 << 63, "config.size"),
        ("manifest", "layers", ABSENT, "layers: expected a list"),
        ("manifest", "layers", None, "layers: expected a list"),
        ("manifest", "layers.1", None, "layers[1]: expected an object"),
        ("manifest", "layers.1.digest", "sha256:0", "layers[1].digest: not a digest"),
        ("manifest", "layers.1.digest", 7, "layers[1].digest: expected a digest"),
        ("manifest", "layers.0.mediaType", ABSENT, "layers[0].mediaType: expected a string"),
        ("manifest", "layers.0.mediaType", "text/html", "layers[0].mediaType: not a layer"),
        ("manifest", "layers.0.urls", "http://x", "layers[0].urls"),
        ("manifest", "layers.0.annotations", {"a": 1}, "layers[0].annotations.a"),
        ("manifest", "layers", [descriptor(image.LAYER)] * 1001, "1001 entries"),
        ("manifest", "manifests", [], "ambiguous"),
        ("index", "layers", [], "ambiguous"),
        ("index", "config", None, "ambiguous"),
        ("index", "manifests", ABSENT, "neither an image manifest nor an index"),
        ("index", "manifests", None, "manifests: expected a list"),
        ("index", "manifests", [descriptor(image.MANIFEST)] * 1001, "1001 entries"),
        ("index", "manifests.0.platform", "amd64", "manifests[0].platform: expected an object"),
        ("index", "manifests.0.platform.os", ABSENT, "manifests[0].platform.os"),
        ("index", "manifests.0.platform.variant", 8, "manifests[0].platform.variant"),
        ("index", "mediaType", image.MANIFEST, "is called"),
        ("config", "architecture", ABSENT, "architecture: expected a string"),
        ("config", "os", 5, "os: expected a string"),
        ("config", "rootfs", ABSENT, "rootfs: expected an object"),
        ("config", "rootfs.type", "tree", "rootfs.type"),
        ("config", "rootfs.diff_ids", ABSENT, "rootfs.diff_ids: expected a list"),
        ("config", "rootfs.diff_ids.1", "x", "rootfs.diff_ids[1]: not a digest"),
        ("config", "config", "sh", "config: expected an object"),
        ("config", "config.Entrypoint", "sh -c", "config.Entrypoint: expected a list of strings"),
        ("config", "config.Cmd", [1], "config.Cmd: expected a list of strings"),
        ("config", "config.Env", ["PATH"], "config.Env[0]: expected NAME=value, got 'PATH'"),
        ("config", "config.Env", ["=x"], "config.Env[0]"),
        ("config", "config.Env", ["A=b\0C=d"], "config.Env: it contains a NUL"),
        ("config", "config.User", 0, "config.User: expected a string"),
        ("config", "config.Volumes", ["/data"], "config.Volumes: expected an object"),
        ("config", "config.Labels", {"a": None}, "config.Labels.a: expected a string"),
        ("config", "config.StopSignal", 9, "config.StopSignal"),
    ],
)
def test_bad_field_is_named(name: str, path: str, value: Any, told: str) -> None:
    document, check = CHECKS[name]
    with pytest.raises(Invalid) as caught:
        check(changed(document, path, value), "manifest of app")
    assert "manifest of app" in caught.value.message
    assert told in caught.value.message


@pytest.mark.parametrize("document", [None, [], "x", 5, {}])
def test_other_json_is_refused(document: Any) -> None:
    for _, check in CHECKS.values():
        with pytest.raises(Invalid):
            check(document, "it")


def test_schema_1_is_told_apart() -> None:
    with pytest.raises(Invalid, match="schema 1 is not supported"):
        image.kind({"schemaVersion": 1, "fsLayers": []}, "it")
    with pytest.raises(Invalid, match="schema 1 is not supported"):
        image.kind(MANIFEST, "it", next(iter(image.SCHEMA1)))


def test_kind_goes_by_fields_and_refuses_lies() -> None:
    assert image.kind(INDEX, "it") == image.INDEX
    assert image.kind(MANIFEST, "it", "application/json") == image.MANIFEST
    with pytest.raises(Invalid, match="is not that"):
        image.kind(MANIFEST, "it", image.DOCKER_INDEX)
    with pytest.raises(Invalid, match="is not that"):
        image.kind(INDEX, "it", image.MANIFEST)


def test_embedded_data_must_match() -> None:
    def with_data(data: str) -> dict[str, Any]:
        return changed(MANIFEST, "config", descriptor(image.CONFIG, data=data))

    image.check_manifest(with_data(base64.b64encode(b"bytes").decode()), "it")
    with pytest.raises(DigestMismatch, match=r"config\.data"):
        image.check_manifest(with_data(base64.b64encode(b"other").decode()), "it")
    with pytest.raises(Invalid, match="6 bytes where size says 5"):
        image.check_manifest(with_data(base64.b64encode(b"longer").decode()), "it")
    with pytest.raises(Invalid, match="not base64"):
        image.check_manifest(with_data("%%%"), "it")


def test_pair_must_have_as_many_layers() -> None:
    manifest, config = image.check_manifest(MANIFEST, "it"), image.check_config(CONFIG, "it")
    image.check_pair(manifest, config, "it")
    fewer = image.check_config(changed(CONFIG, "rootfs.diff_ids", [DIGEST]), "it")
    with pytest.raises(Invalid, match="1 entries for 2 layers"):
        image.check_pair(manifest, fewer, "it")
