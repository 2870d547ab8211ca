# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.errors import Invalid, NotFound
from rootless.oci import document
from rootless.runtime import container

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci list [OPTIONS]"
DESCRIPTION = "List containers"
OPTIONS = (
    Option("--format", "-f", value="form", default="table", choices=("table", "json"), help="table or json"),
    Option("--quiet", "-q", help="Only ids"),
)  # fmt: skip


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Print the containers below the root."""
    found = []
    for each in container.listed(context.root):
        try:
            found.append(container.public(each.state()))
        except NotFound:
            continue  # deleted meanwhile
        except Invalid:
            found.append({"id": each.id, "pid": 0, "status": "damaged", "bundle": ""})
    if options["quiet"]:
        for state in found:
            print(state["id"])
    elif options["format"] == "json":
        print(document.dumps(found).decode())
    else:
        _print_table(found)
    return 0


def _print_table(found: list[dict[str, Any]]) -> None:
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [
        (s["id"], str(s["pid"]), s["status"], s["bundle"], s.get("created", ""), s.get("owner", ""))
        for s in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("   ".join(cells).rstrip())
