# SPDX-License-Identifier: Apache-2.0
"""`rootless image prune`: removing images that nothing uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.confirm import confirm, tell
from rootless.cli.options import Option
from rootless.engine import prune

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless image prune [OPTIONS]"
DESCRIPTION = "Remove images without a name that no container uses; with -a all that none uses."
ARGUMENTS = (0, 0)
OPTIONS = (
    Option("--all", "-a", help="Remove images with names too, if no container uses them"),
    Option(
        "--filter",
        value="filter",
        many=True,
        help="Only what fits: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]",
    ),
    Option("--force", "-f", help="Do not ask"),
)
_DANGLING = "This will remove all dangling images."
_ALL = "This will remove all images without at least one container associated to them."


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Ask, remove, tell."""
    prune.chosen(options["filter"])  # complain before asking
    if not options["force"]:
        confirm(_ALL if options["all"] else _DANGLING, "image prune")
    tell(prune.prune_images(paths, options["filter"], every=options["all"]))
    return 0
