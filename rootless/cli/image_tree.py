# SPDX-License-Identifier: Apache-2.0
"""`rootless image tree`: images, their layers, and what they share."""

from __future__ import annotations

from rootless.cli.options import Option
from rootless.cli.table import human_size, print_documents
from rootless.engine import image_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.image_tree import Layer, Tree
    from rootless.paths import Paths

USAGE = "rootless image tree [OPTIONS] [IMAGE...]"
DESCRIPTION = """\
Show images with their layers, the lowest first: what each layer holds, which other images have it,
and what would be freed with the image."""
COMPLETE = "image"
OPTIONS = (
    Option("--format", value="string", help="json or a Go template, for each image"),
    Option("--no-trunc", help="Do not shorten ids"),
)
_MAX_NAMED = 3  # images named beside a layer


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Draw the trees, or print them as documents."""
    found = image_tree.trees(paths, arguments)
    if options["format"]:
        print_documents([_document(tree) for tree in found], options["format"])
        return 0
    for tree in found:
        _draw(tree, whole=options["no_trunc"])
    if len(found) > 1:
        every, once = sum(tree.size for tree in found), image_tree.unique_size(found)
        print(
            f"{len(found)} images, {human_size(once)}; without sharing it were {human_size(every)}"
        )
    return 0


def _draw(tree: Tree, *, whole: bool) -> None:
    names = ", ".join(tree.names) or "<none>"
    digits = tree.id if whole else tree.id[7:19]
    print(f"{names}  {digits}  {human_size(tree.size)}, {human_size(tree.own)} of it its own")
    for index, layer in enumerate(tree.layers):
        branch = "└─" if index == len(tree.layers) - 1 else "├─"
        digits = layer.diff_id if whole else layer.diff_id[7:19]
        print(f"{branch} {digits}  {human_size(layer.size):>7}  {_sharing(layer)}".rstrip())
    print()


def _sharing(layer: Layer) -> str:
    others = layer.shared_with
    if not others:
        return ""
    more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
    return f"shared with {', '.join(others[:_MAX_NAMED])}{more}"


def _document(tree: Tree) -> dict[str, Any]:
    layers = [
        {
            "DiffID": layer.diff_id,
            "Size": layer.size,
            "CompressedSize": layer.compressed,
            "SharedWith": list(layer.shared_with),
        }
        for layer in tree.layers
    ]
    return {
        "ID": tree.id,
        "Names": list(tree.names),
        "Size": tree.size,
        "OwnSize": tree.own,
        "Layers": layers,
    }
