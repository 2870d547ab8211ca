# SPDX-License-Identifier: Apache-2.0
"""Image manifests, indexes and configs: their types, and the checks before anybody trusts one.

A document that two programs could read differently is refused. Errors name the field's path.
Image specification: manifest.md, image-index.md, config.md, descriptor.md.
"""

from __future__ import annotations

import binascii
from typing import Any, NotRequired, TypedDict, cast

from rootless.errors import DigestMismatch, Invalid
from rootless.oci import digest as digests

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"

SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
MANIFEST_TYPES = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({CONFIG, DOCKER_CONFIG})
LAYER_TYPES = frozenset(
    {
        LAYER,
        LAYER_GZIP,
        LAYER_ZSTD,
        DOCKER_LAYER,
        DOCKER_LAYER_GZIP,
        DOCKER_LAYER_ZSTD,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
# What to ask a registry for, best first.
ACCEPTED = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)

MAX_CHILDREN = 1000  # manifests of an index, layers of a manifest
_MAX_SIZE = 1 << 63


class Descriptor(TypedDict):
    """Where bytes are: their type, digest and size."""

    mediaType: str
    digest: str
    size: int
    urls: NotRequired[list[str]]
    annotations: NotRequired[dict[str, str]]
    data: NotRequired[str]
    artifactType: NotRequired[str]
    platform: NotRequired[dict[str, Any]]


class Manifest(TypedDict):
    """One image: a config and its layers, lowest first."""

    schemaVersion: int
    mediaType: NotRequired[str]
    config: Descriptor
    layers: list[Descriptor]
    annotations: NotRequired[dict[str, str]]


class Index(TypedDict):
    """One name for several images, each for a platform."""

    schemaVersion: int
    mediaType: NotRequired[str]
    manifests: list[Descriptor]
    annotations: NotRequired[dict[str, str]]


class RootFilesystem(TypedDict):
    """The digests of the uncompressed layers, lowest first."""

    type: str
    diff_ids: list[str]


class ImageConfig(TypedDict):
    """The config of an image; `config` has docker's keys, its fields may be null."""

    architecture: str
    os: str
    rootfs: RootFilesystem
    config: NotRequired[dict[str, Any] | None]
    created: NotRequired[str | None]
    variant: NotRequired[str]
    history: NotRequired[list[dict[str, Any]] | None]


def kind(document: Any, source: str, media_type: str = "") -> str:
    """`MANIFEST` or `INDEX`: what a document is, by its own fields.

    `media_type` is what its transport or descriptor called it, "" when nobody did. Raises Invalid
    when it is neither, both, of schema 1, or not what it is called.
    """
    fields = _object(document, source, "")
    declared = fields.get("mediaType", "")
    if not isinstance(declared, str):
        raise _expected(source, "mediaType", "a string", declared)
    if media_type in SCHEMA1 or declared in SCHEMA1 or fields.get("schemaVersion") == 1:
        raise Invalid(
            f"cannot use {source}: image manifest schema 1 is not supported",
            hint="ask its publisher to push it again with a current tool",
        )
    is_index, is_manifest = "manifests" in fields, "layers" in fields or "config" in fields
    if is_index and is_manifest:
        raise _bad(source, "", "it is ambiguous: it has the fields of an index and of a manifest")
    if not is_index and not is_manifest:
        raise _bad(source, "", "it is neither an image manifest nor an index")
    found, types = (INDEX, INDEX_TYPES) if is_index else (MANIFEST, MANIFEST_TYPES)
    for name, told in (("mediaType", declared), ("", media_type)):
        if told in MANIFEST_TYPES | INDEX_TYPES and told not in types:
            raise _bad(source, name, f"it is called {told} and is not that")
    return found


def check_manifest(document: Any, source: str) -> Manifest:
    """The document as a Manifest; raises Invalid naming `source` and the path of the bad field."""
    fields = _object(document, source, "")
    if kind(document, source) != MANIFEST:
        raise _bad(source, "", "expected an image manifest, got an index")
    _check_version(fields, source, MANIFEST_TYPES)
    config = _descriptor(fields, "config", source)
    if config["mediaType"] not in CONFIG_TYPES:
        what = fields.get("artifactType") or config["mediaType"]
        raise Invalid(f"cannot use {source}: it is not a container image but {str(what)[:200]!r}")
    for path, layer in _children(fields, "layers", source):
        _check_descriptor(layer, path, source)
        if layer["mediaType"] not in LAYER_TYPES:
            raise _bad(source, f"{path}.mediaType", f"not a layer: {layer['mediaType'][:200]!r}")
    return cast("Manifest", document)


def check_index(document: Any, source: str) -> Index:
    """The document as an Index; raises Invalid naming `source` and the path of the bad field."""
    fields = _object(document, source, "")
    if kind(document, source) != INDEX:
        raise _bad(source, "", "expected an image index, got a manifest")
    _check_version(fields, source, INDEX_TYPES)
    for path, entry in _children(fields, "manifests", source):
        _check_descriptor(entry, path, source)
        platform = entry.get("platform")
        if platform is None:
            continue
        for name in ("architecture", "os"):
            _text(_object(platform, source, f"{path}.platform"), name, source, f"{path}.platform.")
        if not isinstance(platform.get("variant", ""), str):
            raise _expected(source, f"{path}.platform.variant", "a string", platform["variant"])
    return cast("Index", document)


def check_config(document: Any, source: str) -> ImageConfig:
    """The document as an ImageConfig; raises Invalid naming `source` and the path of the bad field."""
    fields = _object(document, source, "")
    for name in ("architecture", "os"):
        _text(fields, name, source)
    rootfs = _object(fields.get("rootfs"), source, "rootfs")
    if rootfs.get("type") != "layers":
        raise _expected(source, "rootfs.type", '"layers"', rootfs.get("type"))
    diff_ids = rootfs.get("diff_ids")
    if not isinstance(diff_ids, list):
        raise _expected(source, "rootfs.diff_ids", "a list", diff_ids)
    for number, diff_id in enumerate(diff_ids):
        _check_digest(diff_id, f"rootfs.diff_ids[{number}]", source)
    if fields.get("config") is not None:
        _check_execution(_object(fields["config"], source, "config"), source)
    return cast("ImageConfig", document)


def check_pair(manifest: Manifest, config: ImageConfig, source: str) -> None:
    """Raise Invalid unless the config lists one diff id for each layer of the manifest."""
    layers, diff_ids = len(manifest["layers"]), len(config["rootfs"]["diff_ids"])
    if layers != diff_ids:
        raise _bad(source, "rootfs.diff_ids", f"{diff_ids} entries for {layers} layers")


# -- the parts --------------------------------------------------------------------------------


def _check_version(fields: dict[str, Any], source: str, types: frozenset[str]) -> None:
    if type(fields.get("schemaVersion")) is not int or fields["schemaVersion"] != 2:
        raise _expected(source, "schemaVersion", "2", fields.get("schemaVersion"))
    declared = fields.get("mediaType")
    if declared is not None and declared not in types:
        raise _bad(source, "mediaType", f"it is called {str(declared)[:200]!r} and is not that")
    if "annotations" in fields:
        _check_strings(fields["annotations"], "annotations", source)


def _children(fields: dict[str, Any], name: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    found = fields.get(name)
    if not isinstance(found, list):
        raise _expected(source, name, "a list", found)
    if len(found) > MAX_CHILDREN:
        raise _bad(source, name, f"{len(found)} entries are more than {MAX_CHILDREN}")
    paths = [f"{name}[{number}]" for number in range(len(found))]
    return [(path, _object(each, source, path)) for path, each in zip(paths, found, strict=True)]


def _descriptor(fields: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    found = _object(fields.get(name), source, name)
    _check_descriptor(found, name, source)
    return found


def _check_descriptor(found: dict[str, Any], path: str, source: str) -> None:
    _text(found, "mediaType", source, f"{path}.")
    _check_digest(found.get("digest"), f"{path}.digest", source)
    size = found.get("size")
    if type(size) is not int or not 0 <= size < _MAX_SIZE:
        raise _expected(source, f"{path}.size", "a number of bytes", size)
    if found.get("annotations") is not None:
        _check_strings(found["annotations"], f"{path}.annotations", source)
    urls = found.get("urls")
    if urls is not None and not _is_list_of_text(urls):
        raise _expected(source, f"{path}.urls", "a list of strings", urls)
    if found.get("data") is not None:
        _check_data(found, path, source)


def _check_data(found: dict[str, Any], path: str, source: str) -> None:
    """Embedded bytes are bytes like any: they must have the size and the digest (descriptor.md)."""
    try:
        data = binascii.a2b_base64(found["data"], strict_mode=True)
    except (binascii.Error, TypeError, ValueError):
        raise _bad(source, f"{path}.data", "not base64") from None
    if len(data) != found["size"]:
        raise _bad(source, f"{path}.data", f"{len(data)} bytes where size says {found['size']}")
    try:
        expected = digests.parse(found["digest"])
        digests.check(expected, digests.of(data, expected.algorithm), f"{path}.data")
    except DigestMismatch as problem:
        raise DigestMismatch(f"cannot read {source}: {problem.message}") from None


def _check_digest(found: Any, path: str, source: str) -> None:
    if not isinstance(found, str):
        raise _expected(source, path, "a digest", found)
    try:
        digests.parse(found)
    except Invalid as problem:
        raise Invalid(
            f"cannot read {source}: {path}: {problem.message}", hint=problem.hint
        ) from None


_EXECUTION_FIELDS: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (str, "a string", ("User", "WorkingDir", "StopSignal")),
    (list, "a list of strings", ("Entrypoint", "Cmd", "Env", "Shell", "OnBuild")),
    (dict, "an object", ("ExposedPorts", "Volumes", "Healthcheck", "Labels")),
)


def _check_execution(config: dict[str, Any], source: str) -> None:
    """The types of the `config` object's fields; docker writes null for an absent one."""
    for expected_type, expected, names in _EXECUTION_FIELDS:
        for name in names:
            value = config.get(name)
            if value is None:
                continue
            if not isinstance(value, expected_type):
                raise _expected(source, f"config.{name}", expected, value)
            if isinstance(value, list) and not _is_list_of_text(value):
                raise _expected(source, f"config.{name}", expected, value)
            if any("\0" in part for part in config[name]):
                raise _bad(source, f"config.{name}", "it contains a NUL")
    if config.get("Labels") is not None:
        _check_strings(config["Labels"], "config.Labels", source)
    for number, variable in enumerate(config.get("Env") or ()):
        name, equals, _ = variable.partition("=")
        if not equals or not name:
            raise _expected(source, f"config.Env[{number}]", "NAME=value", variable)


def _check_strings(found: Any, path: str, source: str) -> None:
    for key, value in _object(found, source, path).items():
        if not isinstance(value, str):
            raise _expected(source, f"{path}.{key[:200]}", "a string", value)


def _is_list_of_text(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def _object(found: Any, source: str, path: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _expected(source, path, "an object", found)
    return found


def _text(fields: dict[str, Any], name: str, source: str, prefix: str = "") -> str:
    found = fields.get(name)
    if not isinstance(found, str) or not found:
        raise _expected(source, f"{prefix}{name}", "a string", found)
    return found


def _expected(source: str, path: str, expected: str, found: Any) -> Invalid:
    if isinstance(found, (dict, list)):
        shown = "an object" if isinstance(found, dict) else "a list"
    else:
        shown = "nothing" if found is None else repr(found)[:200]
    return _bad(source, path, f"expected {expected}, got {shown}")


def _bad(source: str, path: str, reason: str) -> Invalid:
    return Invalid(
        f"cannot read {source}: {path}: {reason}" if path else f"cannot read {source}: {reason}"
    )
