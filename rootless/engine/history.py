# SPDX-License-Identifier: Apache-2.0
"""How an image came about: its config's history, with the layer each step made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless.engine import images
from rootless.images import outgoing, records
from rootless.oci import document

if TYPE_CHECKING:
    from rootless.oci.platform import Platform
    from rootless.paths import Paths


@dataclass(frozen=True)
class Step:
    """One step, the latest first; `id` is the image's for the last one and "" for the rest."""

    id: str
    created: str
    created_by: str
    size: int
    comment: str


def history(paths: Paths, name: str, platform: Platform | None = None) -> list[Step]:
    """The steps of an image, the latest first.

    Raises NotFound, also for an image that is here for another platform, and Invalid.

    A step without a layer has size 0; layers that the history does not explain are steps, too.
    """
    record = records.get(paths, name)
    images.require_platform(record, platform, name)
    if record.get("host"):
        return [Step(record["id"], record["created"], "", record["size"], "made of this machine")]
    told = outgoing.stored(paths, record).settings.get("history") or []
    sizes = [layer_size(paths, layer["diff_id"]) for layer in record["layers"]]
    steps = [_step(each, sizes) for each in told if isinstance(each, dict)]
    steps += [Step("", "", "", size, "") for size in sizes]
    if not steps:
        return []
    *earlier, last = steps
    latest = Step(record["id"], last.created, last.created_by, last.size, last.comment)
    return [latest, *reversed(earlier)]


def _step(told: dict[str, Any], sizes: list[int]) -> Step:
    """One entry of the history; takes the size of its layer off the list."""
    size = 0 if told.get("empty_layer") is True or not sizes else sizes.pop(0)
    words = [told.get(key) for key in ("created", "created_by", "comment")]
    created, by, comment = (each if isinstance(each, str) else "" for each in words)
    return Step("", created, by, size, comment)


def layer_size(paths: Paths, diff_id: str) -> int:
    """Bytes of all files of a layer, under whichever id map it is unpacked; 0 when it is not."""
    try:
        keys = sorted(os.listdir(paths.layers))
    except FileNotFoundError:
        return 0
    for key in keys:
        try:
            found: int = document.load(f"{paths.layer(key, diff_id)}/layer.json")["size"]
        except (OSError, KeyError):
            continue
        return found
    return 0
