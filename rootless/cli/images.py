# SPDX-License-Identifier: Apache-2.0
"""`rootless images`: the list of images."""

from __future__ import annotations

import time
from datetime import datetime

from rootless.cli.options import Option
from rootless.cli.table import human_duration, human_size, local_time, print_listing
from rootless.engine import filters, images
from rootless.oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.images import Listed
    from rootless.paths import Paths

USAGE = "rootless images [OPTIONS] [REPOSITORY[:TAG]]"
DESCRIPTION = "List images: all of them, or those of one repository."
ARGUMENTS = (0, 1)
COMPLETE = "image"
OPTIONS = (
    Option("--all", "-a", help="Accepted for docker's sake: there are no intermediate images"),
    Option("--digests", help="Show what registries call them"),
    Option(
        "--filter",
        "-f",
        value="filter",
        many=True,
        help=f"Only show what fits KEY=VALUE; keys: {', '.join(filters.IMAGE_KEYS)}",
    ),
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option("--no-trunc", help="Do not shorten ids"),
    Option("--quiet", "-q", help="Only show ids"),
)

_HEADINGS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Platform": "PLATFORM",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_NONE = "<none>"


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print the images that were asked for, the newest first."""
    chosen = filters.parse(options["filter"], filters.IMAGE_KEYS)
    if arguments:
        chosen.setdefault("reference", []).append(arguments[0])
    found = filters.choose_images(paths, images.list(paths), chosen)
    form = options["format"] or ("{{.ID}}" if options["quiet"] else "")
    digest = ("Digest",) if options["digests"] else ()
    columns = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
    now = time.time()
    rows = [_row(image, now, whole=options["no_trunc"]) for image in found]
    print_listing(rows, _HEADINGS, columns, form)
    return 0


def _row(image: Listed, now: float, *, whole: bool) -> dict[str, Any]:
    name = reference.parse(image.reference) if image.reference else None
    created = _epoch(image.created)
    platform = image.record["platform"]
    size = human_size(image.size)
    return {
        "Containers": "N/A",
        "CreatedAt": "N/A" if created is None else local_time(created),
        "CreatedSince": "N/A" if created is None else human_duration(now - created) + " ago",
        "Digest": image.digest or _NONE,
        "ID": image.id if whole else image.id.partition(":")[2][:12],
        "Platform": f"{platform['os']}/{platform['architecture']}",
        "Repository": name.familiar_repository if name else _NONE,
        "SharedSize": "N/A",
        "Size": size,
        "Tag": (name and name.tag) or _NONE,
        "UniqueSize": "N/A",
        "VirtualSize": size,
    }


def _epoch(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, or None for a time that is not said."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
