# SPDX-License-Identifier: Apache-2.0
"""`rootless system prune`: removing all that nothing uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.confirm import bulleted, confirm, tell
from rootless.cli.options import Option
from rootless.engine import prune

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless system prune [OPTIONS]"
DESCRIPTION = "Remove stopped containers, images that nothing uses, and abandoned downloads."
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
    Option("--volumes", help="Accepted for docker's sake: there are no anonymous volumes yet"),
)


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Ask, remove, tell."""
    prune.chosen(options["filter"])
    if not options["force"]:
        images = "dangling images"
        if options["all"]:
            images = "images without at least one container associated to them"
        what = ["all stopped containers", "all " + images, "all abandoned downloads"]
        confirm(bulleted(what), "system prune")
    tell(prune.prune_system(paths, options["filter"], every=options["all"]))
    return 0
