# SPDX-License-Identifier: Apache-2.0
"""Which files differ between two images, from their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.engine.unpack import unpack_missing
from rootless.images import records
from rootless.runtime import idmap
from rootless.storage import compare
from rootless.storage.layers import Layers

if TYPE_CHECKING:
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap


def diff(paths: Paths, before: str, after: str) -> list[tuple[str, str]]:
    """(kind, path) for each path that is added (A), changed (C) or deleted (D), by path.

    Raises NotFound for an image that is not here, Invalid for one that is not whole.
    """
    id_map = idmap.default()
    stacks = [_trees(paths, records.get(paths, name), id_map) for name in (before, after)]
    return compare.compare(id_map, *stacks)


def _trees(paths: Paths, record: dict[str, Any], id_map: IdMap) -> list[str]:
    if "lower" in record:
        return list(reversed(record["lower"]))
    unpack_missing(paths, record, id_map)
    layers = Layers(paths, id_map)
    return [layers.tree(layer["diff_id"]) for layer in record["layers"]]
