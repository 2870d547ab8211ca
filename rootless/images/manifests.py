# SPDX-License-Identifier: Apache-2.0
"""From a manifest or index to the one image to use, wherever the documents come from.

Does no I/O of its own: whoever calls brings an `Origin` that fetches documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rootless import log
from rootless.errors import Invalid, NotFound
from rootless.oci import digest as digests
from rootless.oci import document, image, platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.oci.digest import Digest
    from rootless.oci.platform import Platform

MAX_SIZE = document.MAX_SIZE  # bytes of a manifest, an index or a config
MAX_DEPTH = 4  # an index in an index in an index is somebody's joke


class Origin(Protocol):
    """Where documents come from; what it gives has that size and digest, or it raises."""

    def child(self, digest: Digest, size: int) -> bytes:
        """A manifest or index that an index names."""

    def document(self, digest: Digest, size: int) -> bytes:
        """A config."""


@dataclass(frozen=True)
class Document:
    """A manifest or index as it came; `digest` is that of `body`, `media_type` what it is called."""

    body: bytes
    digest: Digest
    media_type: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer as a manifest and a config together describe it."""

    digest: Digest
    diff_id: Digest
    size: int
    media_type: str

    @property
    def short(self) -> str:
        """Twelve digits, as they are shown to people."""
        return self.digest.encoded[:12]


@dataclass(frozen=True)
class Image:
    """The documents of one image, checked."""

    descriptor: dict[str, Any]
    manifest: bytes
    config: bytes
    config_digest: Digest
    settings: Mapping[str, Any]
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The image's id: the digest of its config."""
        return str(self.config_digest)

    def record(self, size: int) -> dict[str, Any]:
        """The image record (see `images.records`); `size` is the bytes of all unpacked layers."""
        return {
            "id": self.id,
            "created": self.settings.get("created") or "",
            "platform": platform.of(self.settings).as_dict(),
            "config": self.settings.get("config") or {},
            "manifest": self.descriptor,
            "layers": [
                {
                    "digest": str(layer.digest),
                    "media_type": layer.media_type,
                    "size": layer.size,
                    "diff_id": str(layer.diff_id),
                }
                for layer in self.layers
            ],
            "size": size,
        }


def layers_of(record: dict[str, Any]) -> tuple[Layer, ...]:
    """The layers of an image record, lowest first."""
    return tuple(
        Layer(
            digests.parse(each["digest"]),
            digests.parse(each["diff_id"]),
            each["size"],
            each["media_type"],
        )
        for each in record["layers"]
    )


def compose(config: bytes, layers: tuple[Layer, ...], source: str) -> Image:
    """An image with a manifest of our own, for content that came without one.

    `config` is the config document as bytes; raises Invalid when it breaks its specification.
    """
    settings = image.check_config(document.load_strict(config, source), source)
    digest = digests.of(config)
    manifest: image.Manifest = {
        "schemaVersion": 2,
        "mediaType": image.MANIFEST,
        "config": {"mediaType": image.CONFIG, "digest": digest, "size": len(config)},
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    image.check_pair(manifest, settings, source)
    body = document.dumps(manifest)
    descriptor = {"mediaType": image.MANIFEST, "digest": digests.of(body), "size": len(body)}
    return Image(descriptor, body, config, digest, settings, layers)


def choose(top: Document, origin: Origin, wanted: Platform | None, source: str) -> Image:
    """The image for `wanted` (default: this machine) that `top` is or leads to.

    Raises Invalid for documents that break their specification, NotFound when there is no image
    for that platform, and what `origin` raises.
    """
    manifest = _manifest(top, origin, wanted, source)
    parsed = image.check_manifest(document.load_strict(manifest.body, source), source)
    config_source = f"the config of {source}"
    config_digest = digests.parse(parsed["config"]["digest"])
    config = origin.document(config_digest, parsed["config"]["size"])
    settings = image.check_config(document.load_strict(config, config_source), config_source)
    image.check_pair(parsed, settings, config_source)
    _check_platform(platform.of(settings), wanted, source)
    layers = tuple(
        Layer(
            digests.parse(each["digest"]), digests.parse(diff_id), each["size"], each["mediaType"]
        )
        for each, diff_id in zip(parsed["layers"], settings["rootfs"]["diff_ids"], strict=True)
    )
    descriptor = {
        "mediaType": parsed.get("mediaType") or manifest.media_type or image.MANIFEST,
        "digest": str(manifest.digest),
        "size": len(manifest.body),
    }
    return Image(descriptor, manifest.body, config, config_digest, settings, layers)


def _manifest(top: Document, origin: Origin, wanted: Platform | None, source: str) -> Document:
    """Go down through indexes to a manifest."""
    current = top
    for _ in range(MAX_DEPTH + 1):
        parsed = document.load_strict(current.body, source)
        if image.kind(parsed, source, current.media_type) == image.MANIFEST:
            return current
        chosen = platform.choose(image.check_index(parsed, source)["manifests"], wanted)
        digest = digests.parse(chosen["digest"])
        body = origin.child(digest, chosen["size"])
        current = Document(body, digest, chosen["mediaType"])
    raise Invalid(f"cannot use {source}: more than {MAX_DEPTH} indexes inside each other")


def _check_platform(found: Platform, wanted: Platform | None, source: str) -> None:
    """An image without an index says only in its config where it runs."""
    if found in platform.candidates(wanted or platform.host()):
        return
    if wanted is not None:
        raise NotFound(
            f"no image for {wanted}: {source} is for {found}", hint=f"--platform {found}"
        )
    log.warning("image.other_platform", image=source, platform=str(found))
