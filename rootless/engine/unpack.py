# SPDX-License-Identifier: Apache-2.0
"""Unpack the layers of an image that are not there yet under an id map, from the blobs we keep."""

from __future__ import annotations

from rootless.errors import Invalid, NotFound
from rootless.storage.blobs import Blobs
from rootless.storage.layers import Layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap

_CHUNK = 1 << 20


def unpack_missing(paths: Paths, image: dict[str, Any], id_map: IdMap) -> None:
    """Make every layer of the image record `image` available under `id_map`.

    Raises Invalid when a blob it would need is gone; `rootless pull` brings it back.
    """
    blobs, layers = Blobs(paths), Layers(paths, id_map)
    for layer in image["layers"]:
        diff_id, digest = layer["diff_id"], layer["digest"]
        if layers.has(diff_id):
            continue
        try:
            reader = blobs.open(digest)
        except (NotFound, FileNotFoundError):
            raise Invalid(
                f"the layer {diff_id} of image {image['id'][7:19]} is missing, and so is its blob",
                hint="pull or load the image again",
            ) from None
        try:
            with layers.unpacker(diff_id) as unpacker:
                while chunk := reader.read(_CHUNK):
                    unpacker.write(chunk)
                unpacker.finish()
        finally:
            reader.close()
