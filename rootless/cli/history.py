# SPDX-License-Identifier: Apache-2.0
"""`rootless history`: how an image came about."""

from __future__ import annotations

import time
from datetime import datetime

from rootless.cli.options import Option
from rootless.cli.table import ellipsis, human_duration, human_size, print_listing
from rootless.engine import history
from rootless.oci import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.history import Step
    from rootless.paths import Paths

USAGE = "rootless history [OPTIONS] IMAGE"
DESCRIPTION = "Show the steps that made an image, the latest first, and what each added."
ARGUMENTS = (1, 1)
COMPLETE = "image"
OPTIONS = (
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option("--human", "-H", default="true", help="Print sizes and times for people"),
    Option("--no-trunc", help="Do not shorten ids and commands"),
    Option("--platform", value="string", help="Insist on this platform: os/arch[/variant]"),
    Option("--quiet", "-q", help="Only show ids"),
)

_HEADINGS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Size": "SIZE",
}
_MISSING = "<missing>"
_COMMAND_WIDTH = 45


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print the steps of one image."""
    now = time.time()
    is_human, whole = options["human"], options["no_trunc"]
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    steps = history.history(paths, arguments[0], chosen)
    rows = [_row(step, now, is_human=is_human, whole=whole) for step in steps]
    form = options["format"] or ("{{.ID}}" if options["quiet"] else "")
    created = "CreatedSince" if is_human else "CreatedAt"
    print_listing(rows, _HEADINGS, ("ID", created, "CreatedBy", "Size", "Comment"), form)
    return 0


def _row(step: Step, now: float, *, is_human: bool, whole: bool) -> dict[str, Any]:
    try:
        created: float | None = datetime.fromisoformat(step.created).timestamp()
    except ValueError:
        created = None
    command = " ".join(step.created_by.split())
    short = step.id.partition(":")[2][:12]
    return {
        "Comment": step.comment,
        "CreatedAt": step.created or "N/A",
        "CreatedBy": command if whole else ellipsis(command, _COMMAND_WIDTH),
        "CreatedSince": "N/A" if created is None else human_duration(now - created) + " ago",
        "ID": (step.id if whole else short) or _MISSING,
        "Size": human_size(step.size) if is_human else str(step.size),
    }
