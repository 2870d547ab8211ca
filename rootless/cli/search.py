# SPDX-License-Identifier: Apache-2.0
"""`rootless search`: repositories of a registry by a term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.table import ellipsis, print_listing
from rootless.engine import filters
from rootless.errors import UsageError
from rootless.images import search

if TYPE_CHECKING:
    from rootless.images.search import Found
    from rootless.paths import Paths

USAGE = "rootless search [OPTIONS] TERM"
DESCRIPTION = """\
Search docker.io for images, or the registry that the term begins with: `HOST/TERM`. One without a
search of its own is asked for its catalog."""
ARGUMENTS = (1, 1)
COMPLETE = ""
_KEYS = ("is-automated", "is-official", "stars")
OPTIONS = (
    Option(
        "--filter",
        "-f",
        value="filter",
        many=True,
        help=f"Only show what fits KEY=VALUE; keys: {', '.join(_KEYS)}",
    ),
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option(
        "--limit", value="int", default="25", help=f"At most so many results, up to {search.MOST}"
    ),
    Option("--no-trunc", help="Do not shorten descriptions"),
    Option(
        "--tls-verify",
        default="true",
        help="Check the registry's certificate; false also allows plain http",
    ),
)
_HEADINGS = {
    "Description": "DESCRIPTION",
    "IsAutomated": "AUTOMATED",
    "IsOfficial": "OFFICIAL",
    "Name": "NAME",
    "StarCount": "STARS",
}
_WIDTH = 45


def run(options: dict[str, Any], arguments: list[str], _paths: Paths) -> int:
    """Print what the registry finds, in its order."""
    chosen = filters.parse(options["filter"], _KEYS)
    limit = _number("--limit", options["limit"])
    if not 1 <= limit <= search.MOST:
        raise UsageError(f"limit {limit} is outside the range of [1, {search.MOST}]")
    stars = max((_number("stars", text) for text in chosen.get("stars", ())), default=0)
    found = search.search(arguments[0], limit, verify_tls=options["tls_verify"])
    rows = [
        _row(each, whole=options["no_trunc"])
        for each in found
        if each.stars >= stars
        and _fits(chosen, "is-official", each.is_official)
        and _fits(chosen, "is-automated", each.is_automated)
    ]
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    print_listing(rows, _HEADINGS, columns, options["format"] or "")
    return 0


def _fits(chosen: dict[str, list[str]], key: str, value: bool) -> bool:
    return key not in chosen or filters.boolean(key, chosen[key][-1]) is value


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f'invalid argument "{text}" for {name}: not a number')
    return int(text[:9])


def _row(found: Found, *, whole: bool) -> dict[str, Any]:
    return {
        "Description": found.description if whole else ellipsis(found.description, _WIDTH),
        "IsAutomated": "[OK]" if found.is_automated else "",
        "IsOfficial": "[OK]" if found.is_official else "",
        "Name": found.name,
        "StarCount": str(found.stars),
    }
