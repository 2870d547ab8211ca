# SPDX-License-Identifier: Apache-2.0
"""`rootless version`."""

from __future__ import annotations

from rootless.cli.options import Option
from rootless.cli.table import print_documents
from rootless.engine.version import version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

USAGE = "rootless version [OPTIONS]"
DESCRIPTION = "Show the version of rootless and of what it runs on."
ARGUMENTS = (0, 0)
OPTIONS = (Option("--format", "-f", value="string", help="json or a Go template"),)


def run(options: dict[str, Any], _arguments: list[str], _paths: Paths) -> int:
    """Print the versions."""
    found = version()
    if options["format"]:
        print_documents([found], options["format"])
        return 0
    client = found["Client"]
    rows = (
        ("Version", client["Version"]),
        ("Python", f"{client['PythonVersion']} ({client['Interpreter']})"),
        ("Kernel", found["Server"]["KernelVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
    )
    print("rootless")
    for label, value in rows:
        print(f" {label + ':':9} {value}")
    return 0
