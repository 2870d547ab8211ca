# SPDX-License-Identifier: Apache-2.0
"""`rootless info`: facts about this machine and the store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.table import print_documents
from rootless.engine.info import info

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless info [OPTIONS]"
DESCRIPTION = (
    "Show facts about this machine and the store; `rootless doctor` tells what is lacking."
)
ARGUMENTS = (0, 0)
OPTIONS = (Option("--format", "-f", value="string", help="json or a Go template"),)

# Label and the field it shows; an indented label belongs to the one above.
_LINES = (
    ("Version", "Version"),
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Storage Driver", "Driver"),
    (" Reason", "DriverReason"),
    (" Backing Filesystem", "StoreFileSystem"),
    ("Store Directory", "StoreDirectory"),
    ("Runtime Directory", "RuntimeDirectory"),
    ("Cgroup Version", "CgroupVersion"),
    (" Controllers", "CgroupControllers"),
    ("User Ids", "UidMap"),
    ("Group Ids", "GidMap"),
    (" Source", "IdMapSource"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("User", "User"),
    ("Python", "PythonVersion"),
)


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Print the facts."""
    found = info(paths)
    if options["format"]:
        print_documents([found], options["format"])
        return 0
    for label, field in _LINES:
        print(f"{label}: {_shown(field, found[field])}".rstrip())
    for warning in found["Warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    return 0


def _shown(field: str, value: Any) -> str:
    if field in ("UidMap", "GidMap"):
        return ", ".join(
            f"{line['Inside']} is {line['Outside']}"
            if line["Count"] == 1
            else f"{line['Inside']}-{line['Inside'] + line['Count'] - 1} are from {line['Outside']}"
            for line in value
        )
    if field == "MemTotal":
        return f"{value / (1 << 30):.4g}GiB"
    return " ".join(value) if isinstance(value, list) else str(value)
