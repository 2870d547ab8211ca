# SPDX-License-Identifier: Apache-2.0
"""`rootless doctor`: what this machine can do, and the exact lines that mend what it cannot."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.table import print_documents
from rootless.engine.doctor.examination import PROBES, examine, judge
from rootless.engine.doctor.probe import OK, SKIP, Host, Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from rootless.engine.doctor.examination import Verdict
    from rootless.paths import Paths

USAGE = "rootless doctor [OPTIONS]"
DESCRIPTION = """\
Probe what this machine can do for containers by trying it, and show how to mend what it cannot.
The exit code is 0 if a container can run, perhaps with less than everything, and 1 if none can."""
ARGUMENTS = (0, 0)
OPTIONS = (Option("--format", value="string", help="json or a Go template"),)

_MARKS = {
    "ok": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "bold red"),
    "skip": ("-", "dim"),
}


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Make every probe and print what it found."""
    host = Host(paths)
    form = options["format"] or ""
    if form:
        results = list(examine(host))
        verdict = judge(results)
        document = {
            "Ok": verdict.runs,
            "Summary": verdict.summary,
            "Probes": [{key.title(): value for key, value in asdict(r).items()} for r in results],
        }
        print_documents([document], form)
    elif sys.stdout is not None and sys.stdout.isatty():
        verdict = _show(examine(host))
    else:
        verdict = _print(examine(host))
    return 0 if verdict.runs else 1


def _print(results: Iterable[Result]) -> Verdict:
    """Plain lines, one a probe, then one block of lines to type for each that is not well."""
    results = list(results)
    width = max(len(result.name) for result in results)
    for result in results:
        print(f"{result.status:4}  {result.name:{width}}  {result.found}")
    for result in _ailing(results):
        print(f"\n# {result.name}: {result.purpose}")
        print("\n".join(result.mend))
    verdict = judge(results)
    print(f"\n{verdict.summary}")
    return verdict


def _show(results: Iterable[Result]) -> Verdict:
    """The same on a terminal: in colour, a topic at a time as its probes end."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    seen: list[Result] = []
    for topic, members in groupby(results, key=lambda result: result.topic):
        found = list(members)
        console.print(Text(topic, style="bold"))
        console.print(_grid(found))
        seen += found
    for result in _ailing(seen):
        console.print(Text(f"\n# {result.name}: {result.purpose}", style="dim"))
        for line in result.mend:  # to be copied: neither wrapped nor interpreted
            console.print(line, style="cyan", soft_wrap=True, markup=False)
    verdict = judge(seen)
    console.print(Text(f"\n{verdict.summary}", style="bold green" if verdict.runs else "bold red"))
    return verdict


def _grid(results: Iterable[Result]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=3, justify="right")
    grid.add_column(width=max(len(probe.name) for probe in PROBES))
    grid.add_column()
    for result in results:
        mark, style = _MARKS[result.status]
        is_well = result.status in (OK, SKIP)
        name = Text(result.name, style="" if is_well else style)
        grid.add_row(
            Text(mark, style=style), name, Text(result.found, style="dim" if is_well else "")
        )
    return grid


def _ailing(results: Iterable[Result]) -> list[Result]:
    return [result for result in results if result.status != OK and result.mend]
