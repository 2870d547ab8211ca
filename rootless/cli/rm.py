# SPDX-License-Identifier: Apache-2.0
"""`rootless rm`: removing containers."""

from __future__ import annotations

from rootless.cli.each import for_each
from rootless.cli.main import report
from rootless.cli.options import Option
from rootless.engine import containers
from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

USAGE = "rootless rm [OPTIONS] CONTAINER [CONTAINER...]"
DESCRIPTION = "Remove containers, by name, id or the beginning of an id."
ARGUMENTS = (1, None)
COMPLETE = "container"
OPTIONS = (
    Option("--force", "-f", help="Kill a container that runs; one that is not there is no failure"),
    Option("--volumes", "-v", help="Remove its anonymous volumes too"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Remove each container that is named and print the name; go on after a failure."""
    force = options["force"]

    def remove(name: str) -> None:
        try:
            container = containers.get(paths, name)
        except NotFound as problem:
            if not force:
                raise
            report(problem)  # told, but as in docker no failure
            return
        containers.remove(paths, container, force=force)
        print(name)

    return for_each(arguments, remove)
