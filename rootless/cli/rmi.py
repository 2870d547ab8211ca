# SPDX-License-Identifier: Apache-2.0
"""`rootless rmi`: removing images and their names."""

from __future__ import annotations

from rootless.cli.each import for_each
from rootless.cli.main import report
from rootless.cli.options import Option
from rootless.engine import removal
from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

USAGE = "rootless rmi [OPTIONS] IMAGE [IMAGE...]"
DESCRIPTION = "Remove names of images, and images with their last name."
ARGUMENTS = (1, None)
COMPLETE = "image"
OPTIONS = (
    Option("--force", "-f", help="Remove all names; one that is not there is no failure"),
    Option("--no-prune", help="Accepted for docker's sake: untagged parents do not exist here"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Remove each image that is named and print what happened; go on after a failure."""
    force = options["force"]

    def remove(name: str) -> None:
        try:
            events = removal.remove(paths, name, force=force)
        except NotFound as problem:
            if not force:
                raise
            report(problem)  # told, but as in docker no failure
            return
        for event in events:
            for what, subject in event.items():
                print(f"{what}: {subject}")

    return for_each(arguments, remove)
