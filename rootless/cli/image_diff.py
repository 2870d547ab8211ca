# SPDX-License-Identifier: Apache-2.0
"""`rootless image diff`: the files in which two images differ."""

from __future__ import annotations

from rootless.cli.options import Option
from rootless.cli.table import print_documents
from rootless.engine import image_diff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

USAGE = "rootless image diff [OPTIONS] IMAGE IMAGE"
DESCRIPTION = """\
Show in which files the second image differs from the first: A added, C changed (content, owner,
mode), D deleted. Times are not compared."""
ARGUMENTS = (2, 2)
COMPLETE = "image"
OPTIONS = (Option("--format", value="string", help="json or a Go template, for each path"),)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print a line for each path."""
    found = image_diff.diff(paths, *arguments)
    if options["format"]:
        rows = [{"Kind": kind, "Path": path} for kind, path in found]
        print_documents(rows, options["format"])
        return 0
    for kind, path in found:
        shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        print(kind, shown)
    return 0
