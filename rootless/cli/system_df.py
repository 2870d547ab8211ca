# SPDX-License-Identifier: Apache-2.0
"""`rootless system df`: what the store takes on the disk."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.table import ellipsis, human_duration, human_size, print_listing
from rootless.engine.usage import measure
from rootless.oci import reference

if TYPE_CHECKING:
    from rootless.engine.usage import ContainerUsage, ImageUsage, Row, Usage
    from rootless.paths import Paths

USAGE = "rootless system df [OPTIONS]"
DESCRIPTION = (
    "Show what the store takes on the disk: allocated bytes, as du counts them; the rows add up to"
    " what du says of the store's directory."
)
ARGUMENTS = (0, 0)
OPTIONS = (
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option("--verbose", "-v", help="Show every image and container, and what images share"),
)

_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
    "Bytes": "BYTES",
}
_IMAGE = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINER = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Print the rows, or everything."""
    found = measure(paths)
    if options["verbose"] and not options["format"]:
        _print_all(found)
        return 0
    columns = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
    print_listing(map(_row, found.rows), _HEADINGS, columns, options["format"] or "")
    return 0


def _row(row: Row) -> dict[str, Any]:
    share = f" ({100 * row.reclaimable // row.size}%)" if row.size else ""
    return {
        "Type": row.kind,
        "TotalCount": str(row.total),
        "Active": str(row.active),
        "Size": human_size(row.size),
        "Reclaimable": human_size(row.reclaimable) + share,
        "Bytes": row.size,
    }


def _print_all(found: Usage) -> None:
    now = time.time()
    print("Images space usage:\n")
    rows = [row for image in found.images for row in _image_rows(image, now)]
    print_listing(rows, _IMAGE, tuple(_IMAGE), "")
    print("\nContainers space usage:\n")
    print_listing(
        (_container_row(each, now) for each in found.containers), _CONTAINER, tuple(_CONTAINER), ""
    )
    print("\nElse:\n")
    others = [_row(row) for row in found.rows[2:]]
    print_listing(others, _HEADINGS, ("Type", "Size", "Reclaimable"), "")


def _image_rows(image: ImageUsage, now: float) -> list[dict[str, Any]]:
    try:
        created = datetime.fromisoformat(image.record["created"]).timestamp()
        since = human_duration(now - created) + " ago"
    except ValueError:
        since = "N/A"
    rows = []
    for name in image.names or ("",):
        known = reference.parse(name) if name else None
        rows.append(
            {
                "Repository": known.familiar_repository if known else "<none>",
                "Tag": (known and known.tag) or "<none>",
                "ID": image.record["id"][7:19],
                "CreatedSince": since,
                "Size": human_size(image.size),
                "SharedSize": human_size(image.shared),
                "UniqueSize": human_size(image.unique),
                "Containers": str(image.containers),
            }
        )
    return rows


def _container_row(each: ContainerUsage, now: float) -> dict[str, Any]:
    container = each.container
    return {
        "ID": container.id[:12],
        "Image": container.image,
        "Command": '"' + ellipsis(" ".join(container.command), 20) + '"',
        "LocalVolumes": "0",
        "Size": human_size(each.size),
        "RunningFor": human_duration(now - container.created) + " ago",
        "Status": container.status,
        "Names": container.name,
    }
