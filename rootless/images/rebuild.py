# SPDX-License-Identifier: Apache-2.0
"""Image records made again from the documents they were made of: a manifest and a config among the blobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, NotFound, RootlessError
from rootless.images import manifests, records
from rootless.images.manifests import Document
from rootless.oci import digest as digests
from rootless.oci import document, image
from rootless.runtime import idmap
from rootless.storage.blobs import Blobs
from rootless.storage.layers import Layers

if TYPE_CHECKING:
    from rootless.oci.digest import Digest
    from rootless.paths import Paths


def image_of_manifest(paths: Paths, digest: str) -> str:
    """The id of the image whose manifest is that blob, "" when it is none."""
    return _config_of(Blobs(paths), digest)


def record(paths: Paths, image_id: str, manifest: str = "") -> dict[str, Any]:
    """The image record of an image, of the blob `manifest` if that is known, else of one found.

    Raises NotFound when there is no manifest or config of it among the blobs, Invalid for damage.
    """
    blobs = Blobs(paths)
    if not manifest or _config_of(blobs, manifest) != image_id:
        manifest = _find_manifest(blobs, image_id)
    digest = digests.parse(manifest)
    body = blobs.read(digest, manifests.MAX_SIZE)
    source = f"the manifest of image {image_id[7:19]}"
    media_type = document.load_strict(body, source).get("mediaType") or image.MANIFEST
    found = manifests.choose(Document(body, digest, media_type), _Kept(blobs), None, source)
    return found.record(_unpacked_size(paths, found))


def agrees(known: dict[str, Any], made: dict[str, Any]) -> bool:
    """True when a record says what its documents say; the size is a fact of the layers."""
    return {**known, "size": 0} == {**made, "size": 0}


class _Kept:
    """Documents among the blobs, as `manifests.choose` asks for them."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def document(self, digest: Digest, size: int) -> bytes:
        body = self._blobs.read(digest, manifests.MAX_SIZE)
        if len(body) != size:
            raise Invalid(f"{digest} has {len(body)} bytes, not {size}")
        return body

    child = document


def _find_manifest(blobs: Blobs, image_id: str) -> str:
    for digest in blobs.digests():
        if _config_of(blobs, digest) == image_id:
            return digest
    raise NotFound(f"no manifest of image {image_id[7:19]} is among the blobs")


def _config_of(blobs: Blobs, digest: str) -> str:
    """The config that a manifest names, "" for a blob that is no manifest."""
    try:
        if blobs.size(digest) > manifests.MAX_SIZE:
            return ""
        with blobs.open(digest) as reader:
            if reader.read(1) != b"{":  # most blobs are compressed
                return ""
        found = image.check_manifest(
            document.load_strict(blobs.read(digest, manifests.MAX_SIZE), "a blob"), "a blob"
        )
    except (RootlessError, OSError):
        return ""
    return found["config"]["digest"]


def _unpacked_size(paths: Paths, found: manifests.Image) -> int:
    """Bytes of the layers, as far as they are unpacked under some id map."""
    total = 0
    for layer in found.layers:
        total += next(filter(None, (_size(paths, key, layer.diff_id) for key in _keys(paths))), 0)
    return total


def _keys(paths: Paths) -> list[str]:
    try:
        return sorted(os.listdir(paths.layers))
    except FileNotFoundError:
        return []


def _size(paths: Paths, key: str, diff_id: str) -> int:
    id_map = idmap.from_key(key)
    if id_map is None:
        return 0
    try:
        return int(Layers(paths, id_map).info(diff_id)["size"])
    except (RootlessError, OSError, KeyError, TypeError, ValueError):
        return 0


def image_by_index(paths: Paths, canonical: str) -> str:
    """The image that `index.json` says a reference names, "" when it says nothing: the only copy left."""
    try:
        found = document.load(paths.index)
        for entry in found["manifests"]:
            if entry["annotations"].get(records.NAME_ANNOTATION) == canonical:
                return image_of_manifest(paths, entry["digest"])
    except (RootlessError, OSError, KeyError, TypeError, AttributeError):
        pass
    return ""
