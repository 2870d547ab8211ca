# SPDX-License-Identifier: Apache-2.0
"""Images with their layers: which layers several images have, and what each image costs by itself."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless.engine.history import layer_size
from rootless.images import records
from rootless.oci import reference
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.paths import Paths


@dataclass(frozen=True)
class Layer:
    """A layer of an image: bytes unpacked and as a blob, and who else has it."""

    diff_id: str
    size: int
    compressed: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """An image and its layers, the lowest first; sizes are bytes of unpacked files."""

    id: str
    names: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """All its layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def own(self) -> int:
        """What deleting the image would free."""
        return sum(layer.size for layer in self.layers if not layer.shared_with)


def trees(paths: Paths, wanted: Sequence[str] = ()) -> list[Tree]:
    """The trees of the images that are wanted, or of all, by name; raises NotFound."""
    every = records.list_images(paths)
    names: dict[str, list[str]] = defaultdict(list)
    for entry in records.list_references(paths):
        names[entry["image"]].append(reference.parse(entry["reference"]).familiar)
    users: dict[str, list[str]] = defaultdict(list)
    for record in every:
        for diff_id in {layer["diff_id"] for layer in record["layers"]}:
            users[diff_id].append(record["id"])
    chosen = [records.get(paths, name) for name in wanted] or every
    found = [_tree(paths, record, names, users) for record in chosen]
    return sorted(found, key=lambda tree: (not tree.names, tree.names, tree.id))


def _tree(
    paths: Paths,
    record: dict[str, Any],
    names: dict[str, list[str]],
    users: dict[str, list[str]],
) -> Tree:
    blobs = Blobs(paths)
    layers = []
    for layer in record["layers"]:
        others = sorted(each for each in users[layer["diff_id"]] if each != record["id"])
        shown = tuple((names[each] or [each[7:19]])[0] for each in others)
        compressed = layer["size"] if blobs.has(layer["digest"]) else 0
        size = layer_size(paths, layer["diff_id"])
        layers.append(Layer(layer["diff_id"], size, compressed, shown))
    return Tree(record["id"], tuple(names[record["id"]]), tuple(layers))


def unique_size(found: Sequence[Tree]) -> int:
    """Bytes of all layers of these images, each layer once."""
    return sum({layer.diff_id: layer.size for tree in found for layer in tree.layers}.values())
