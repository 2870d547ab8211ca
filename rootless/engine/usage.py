# SPDX-License-Identifier: Apache-2.0
"""`system df`: what the store takes on the disk, and which part of it is whose.

Sizes are allocated bytes, as `du` counts them; the rows of `Usage.rows` add up to what it says of the
store's directory.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless.engine import containers
from rootless.images import records
from rootless.runtime import idmap
from rootless.storage import usage

if TYPE_CHECKING:
    from rootless.engine.containers import Container
    from rootless.paths import Paths

# How far down each directory of the store is told apart.
_DEPTHS = {"blobs": 2, "layers": 2, "containers": 1, "images": 1, "volumes": 1}
_OF_IMAGES = ("blobs", "layers", "images", "refs", "index.json", "oci-layout", "host", "manifests")
_OF_CONTAINERS = ("containers", "names")


@dataclass(frozen=True)
class ImageUsage:
    """What one image takes: `shared` with others, and what only it has."""

    record: dict[str, Any]
    names: tuple[str, ...]
    shared: int
    unique: int
    containers: int

    @property
    def size(self) -> int:
        """All that it needs."""
        return self.shared + self.unique


@dataclass(frozen=True)
class ContainerUsage:
    """What one container's own files take."""

    container: Container
    size: int


@dataclass(frozen=True)
class Row:
    """One kind of thing: how many there are, how many are in use, bytes, and bytes nothing uses."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


@dataclass(frozen=True)
class Usage:
    """The whole store."""

    rows: tuple[Row, ...]
    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return sum(row.size for row in self.rows)


def measure(paths: Paths) -> Usage:
    """Count everything; raises HostUnable where the owners' user namespace cannot be made."""
    if not os.path.isdir(paths.data):
        return Usage(tuple(Row(kind, 0, 0, 0, 0) for kind in _KINDS), (), ())
    found = usage.measure(idmap.default(), paths.data, _DEPTHS)
    known = containers.list(paths)
    images = _images(paths, found, known)
    users = tuple(ContainerUsage(each, found.get(f"containers/{each.id}", 0)) for each in known)
    return Usage(_rows(found, images, users), images, users)


def total(paths: Paths) -> int:
    """Bytes of the whole store."""
    if not os.path.isdir(paths.data):
        return 0
    return sum(usage.measure(idmap.default(), paths.data, {}).values())


_KINDS = ("Images", "Containers", "Local Volumes", "Build Cache", "Downloads", "Store")


def _rows(
    found: dict[str, int], images: tuple[ImageUsage, ...], users: tuple[ContainerUsage, ...]
) -> tuple[Row, ...]:
    sums: Counter[str] = Counter()
    for path, size in found.items():
        sums[path.partition("/")[0]] += size
    of_images = sum(sums.pop(name, 0) for name in _OF_IMAGES)
    of_containers = sum(sums.pop(name, 0) for name in _OF_CONTAINERS)
    volumes, cache, downloads = (sums.pop(name, 0) for name in ("volumes", "cache", "partial"))
    running = [each for each in users if each.container.is_running]
    count = sum(path.startswith("volumes/") for path in found)
    return (
        Row(
            "Images",
            len(images),
            sum(image.containers > 0 for image in images),
            of_images,
            _reclaimable(found, images),
        ),
        Row(
            "Containers",
            len(users),
            len(running),
            of_containers,
            sum(each.size for each in users) - sum(each.size for each in running),
        ),
        Row("Local Volumes", count, 0, volumes, 0),
        Row("Build Cache", 0, 0, cache, cache),
        Row("Downloads", 0, 0, downloads, downloads),
        Row("Store", 1, 1, sum(sums.values()), 0),
    )


# -- images -----------------------------------------------------------------------------------------


def _images(paths: Paths, found: dict[str, int], known: list[Container]) -> tuple[ImageUsage, ...]:
    names: dict[str, list[str]] = {}
    for entry in records.list_references(paths):
        names.setdefault(entry["image"], []).append(entry["reference"])
    users = Counter(each.image_id for each in known)
    listed = records.list_images(paths)
    parts = {record["id"]: _parts(record, found) for record in listed}
    owners = Counter(part for each in parts.values() for part in each)
    made = []
    for record in listed:
        mine = parts[record["id"]]
        made.append(
            ImageUsage(
                record,
                tuple(names.get(record["id"], ())),
                shared=sum(found[part] for part in mine if owners[part] > 1),
                unique=sum(found[part] for part in mine if owners[part] == 1),
                containers=users[record["id"]],
            )
        )
    return tuple(made)


def _parts(record: dict[str, Any], found: dict[str, int]) -> set[str]:
    """The paths an image consists of: documents, compressed layers, layers unpacked under any map."""
    blobs = {record["id"], record["manifest"]["digest"], *(e["digest"] for e in record["layers"])}
    mine = {"blobs/" + digest.replace(":", "/") for digest in blobs}
    mine.add(f"images/{record['id'][7:]}.json")
    keys = {path.split("/")[1] for path in found if path.startswith("layers/")}
    for layer in record["layers"]:
        encoded = layer["diff_id"].partition(":")[2]
        mine |= {f"layers/{key}/{encoded}" for key in keys}
    return mine & found.keys()


def _reclaimable(found: dict[str, int], images: tuple[ImageUsage, ...]) -> int:
    """Bytes that go with the images no container uses."""
    kept: set[str] = set()
    dropped: set[str] = set()
    for image in images:
        (kept if image.containers else dropped).update(_parts(image.record, found))
    return sum(found[part] for part in dropped - kept)
