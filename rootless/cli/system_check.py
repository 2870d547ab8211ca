# SPDX-License-Identifier: Apache-2.0
"""`rootless system check`: is everything in the store there and whole; with --repair, make it so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.table import print_listing
from rootless.engine.check import check

if TYPE_CHECKING:
    from rootless.engine.check.fault import Fault
    from rootless.paths import Paths

USAGE = "rootless system check [OPTIONS]"
DESCRIPTION = (
    "Look for anything that is missing, damaged or left over in the store. Ends with 0 when all is"
    " well, or was mended by --repair, and with 1 when something is not."
)
ARGUMENTS = (0, 0)
OPTIONS = (
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option("--quick", "-q", help="Compare names and sizes only; read no content"),
    Option("--repair", "-r", help="Mend what can be mended; what is well is not touched"),
)

_HEADINGS = {
    "Kind": "KIND",
    "Subject": "SUBJECT",
    "Problem": "PROBLEM",
    "State": "STATE",
    "Mended": "MENDED",
    "Hint": "HINT",
}


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Print the faults; the exit code says whether any is left."""
    found = check(paths, repair=options["repair"], quick=options["quick"])
    left = [fault for fault in found if not fault.mended]
    if found or options["format"]:
        columns = ("Kind", "Subject", "Problem", "State")
        print_listing(map(_row, found), _HEADINGS, columns, options["format"] or "")
    if not options["format"]:
        print(_verdict(found, left, repair=options["repair"]), file=sys.stderr)
    return 1 if left else 0


def _row(fault: Fault) -> dict[str, Any]:
    state = "mended" if fault.mended else fault.failure or fault.hint or "to be mended"
    return {
        "Kind": fault.kind,
        "Subject": fault.subject,
        "Problem": fault.problem,
        "State": state,
        "Mended": fault.mended,
        "Hint": fault.hint,
    }


def _verdict(found: list[Fault], left: list[Fault], *, repair: bool) -> str:
    if not found:
        return "the store is whole"
    if not left:
        return f"mended all of {_count(found)}"
    if repair:
        return f"{_count(left)} left of {len(found)}"
    mendable = any(fault.mend is not None for fault in left)
    return f"{_count(left)}" + ("; rootless system check --repair mends" if mendable else "")


def _count(faults: list[Fault]) -> str:
    return f"{len(faults)} fault" + ("s" if len(faults) != 1 else "")
