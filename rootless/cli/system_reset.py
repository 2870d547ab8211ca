# SPDX-License-Identifier: Apache-2.0
"""`rootless system reset`: removing the whole store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.confirm import bulleted, confirm
from rootless.cli.options import Option
from rootless.engine.reset import reset

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless system reset [OPTIONS]"
DESCRIPTION = "Remove all containers, images and everything else of the store."
ARGUMENTS = (0, 0)
OPTIONS = (Option("--force", "-f", help="Do not ask, and kill what runs"),)


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Ask, and remove."""
    if not options["force"]:
        what = ["all containers", "all images", f"everything else in {paths.data}"]
        confirm(bulleted(what), "system reset")
    reset(paths, force=options["force"])
    return 0
