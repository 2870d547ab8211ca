# SPDX-License-Identifier: Apache-2.0
"""Listings as docker prints them: tables, `--format`, and sizes and ages for people."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from rootless.cli.template import Template
from rootless.cli.template_functions import FUNCTIONS, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_LEAST_WIDTH, _PADDING = 10, 3  # of docker's columns
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def print_listing(
    rows: Iterable[Mapping[str, Any]],
    headings: Mapping[str, str],
    columns: Sequence[str],
    form: str,
) -> None:
    """Print rows as `--format` asks: `json`, `table`, `table TEMPLATE`, a template, or by default a table.

    `headings` names every field of a row; `columns` are the fields of the default table.
    """
    form = form or "table"
    if form == "json":
        for row in rows:
            print(to_json(row))
        return
    text = form.replace(r"\t", "\t").replace(r"\n", "\n")
    if form.split(maxsplit=1)[0] != "table":
        template = Template(text)
        for row in rows:
            print(template.render(row))
        return
    text = text.removeprefix("table").strip(" ")
    text = text or "\t".join(f"{{{{.{name}}}}}" for name in columns)
    template = Template(text)
    heading = Template(text, _HEADING_FUNCTIONS).render(_HeadingRow(headings))
    print_table([heading, *(template.render(row) for row in rows)])


def print_table(lines: Iterable[str]) -> None:
    """Print lines whose cells are divided by tabs, in columns as wide as their widest cell."""
    rows = [part.split("\t") for line in lines for part in line.split("\n")]
    widths = [_LEAST_WIDTH] * max((len(row) for row in rows), default=0)
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], len(cell) + _PADDING)
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print("".join((*cells, row[-1])).rstrip(" ") if row else "")


def _first(value: Any, *_: Any) -> Any:
    return value


# In the heading every function leaves the name of the column as it is.
_HEADING_FUNCTIONS = dict.fromkeys(FUNCTIONS, _first)
_HEADING_FUNCTIONS["split"] = lambda value, *_: [value]
_HEADING_FUNCTIONS["join"] = lambda value, *_: value if isinstance(value, str) else value[0]


class _HeadingRow(dict[str, object]):
    """The headings as a row; `.Label "com.example.x"` is headed by the last part of the name."""

    def __init__(self, headings: Mapping[str, str]) -> None:
        super().__init__(headings)
        self["Label"] = lambda name: re.split(r"[.]", name)[-1].replace("-", " ").replace("_", " ")


def print_documents(documents: Sequence[Any], form: str) -> None:
    """Print inspect documents: an indented JSON array, `json` for one line each, or by a template."""
    if not form:
        print(json.dumps(documents, indent=4, ensure_ascii=False))
        return
    if form == "json":
        for document in documents:
            print(to_json(document))
        return
    template = Template(form.replace(r"\t", "\t").replace(r"\n", "\n"))
    for document in documents:
        print(template.render(document))


def human_size(count: int | float) -> str:
    """A number of bytes with three digits and a decimal unit: 74.8MB, 0B, 1.02kB."""
    size = float(count)
    for unit in _UNITS:
        digits = f"{size:.3g}"
        if float(digits) < 1000 or unit == _UNITS[-1]:
            return digits + unit
        size /= 1000
    raise AssertionError("the last unit takes any size")


def human_duration(seconds: float) -> str:
    """A span as docker words it: Less than a second, 5 seconds, About an hour, 3 weeks."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    days = hours // 24
    fixed = {0: "Less than a second", 1: "1 second"}
    if whole < 60:
        return fixed.get(max(whole, 0), f"{whole} seconds")
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if days < limit:
            return f"{days // length} {unit}"
    return f"{days // 365} years"


def local_time(epoch: float) -> str:
    """An instant as Go prints a local time: 2006-01-02 15:04:05 -0700 MST."""
    return datetime.fromtimestamp(epoch, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def ellipsis(text: str, width: int) -> str:
    """`text` cut to `width` characters, the last of which is then an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"
