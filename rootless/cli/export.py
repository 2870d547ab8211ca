# SPDX-License-Identifier: Apache-2.0
"""`rootless export`: the file system of a container as an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.output_file import output
from rootless.engine import export

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless export [OPTIONS] CONTAINER"
DESCRIPTION = """\
Write the file system of a container, running or not, as one tar archive. Mounts and volumes are left
out. The same files give the same bytes; `rootless import` makes an image of them."""
ARGUMENTS = (1, 1)
COMPLETE = "container"
OPTIONS = (
    Option("--output", "-o", value="string", help="Write to this file, not to standard output"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Write the archive."""
    with output(options["output"], "export") as write:
        for piece in export.export(paths, arguments[0]):
            write(piece)
    return 0
