# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci ps`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.errors import Conflict, HostUnable, UsageError
from rootless.oci import document
from rootless.runtime import idmap, kill
from rootless.runtime.container import Container

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci ps [OPTIONS] CONTAINER [PS OPTIONS]"
DESCRIPTION = "List the processes of a container"
COMMAND_FOLLOWS = True
OPTIONS_AFTER_ID = False  # they are those of ps(1)
OPTIONS = (
    Option("--format", "-f", value="form", default="table", choices=("table", "json"), help="table or json"),
)  # fmt: skip


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Print the processes, as the host sees them; the host's own ps(1) prints the table."""
    if not arguments:
        raise UsageError("ps needs a container id")
    stored = Container(context.root, arguments[0]).state()
    if stored["status"] == "stopped":
        raise Conflict(f"container {arguments[0]} is not running")
    pids = kill.processes(stored)
    if options["format"] == "json":
        print(document.dumps(pids).decode())
        return 0
    program = idmap.find_program("ps")
    if not program:
        raise HostUnable("the program ps is not installed", hint="apt install procps, or -f json")
    command = [program, *(arguments[1:] or ["-ef"])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    column = lines[0].split().index("PID") if lines and "PID" in lines[0].split() else None
    if column is None:
        raise UsageError("ps: the options must show the column PID")
    print(lines[0])
    for line in lines[1:]:
        if int(line.split()[column]) in pids:
            print(line)
    return done.returncode
