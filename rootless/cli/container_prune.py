# SPDX-License-Identifier: Apache-2.0
"""`rootless container prune`: removing containers that do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.confirm import confirm, tell
from rootless.cli.options import Option
from rootless.engine import prune

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless container prune [OPTIONS]"
DESCRIPTION = "Remove every container that does not run, with the files it wrote."
ARGUMENTS = (0, 0)
OPTIONS = (
    Option(
        "--filter",
        value="filter",
        many=True,
        help="Only what fits: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]",
    ),
    Option("--force", "-f", help="Do not ask"),
)


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Ask, remove, tell."""
    prune.chosen(options["filter"])
    if not options["force"]:
        confirm("This will remove all stopped containers.", "container prune")
    tell(prune.prune_containers(paths, options["filter"]))
    return 0
