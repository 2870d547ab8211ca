# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci update`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.oci.main import only
from rootless.cli.options import Option
from rootless.errors import Conflict, HostUnable, UsageError
from rootless.oci import document
from rootless.oci import runtime as specification
from rootless.runtime import cgroup
from rootless.runtime.container import Container
from rootless.runtime.resources import Resources

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci update [OPTIONS] CONTAINER"
DESCRIPTION = "Change the limits of a container"
OPTIONS = (
    Option("--blkio-weight", value="number", help="Weight of block I/O, 10 to 1000"),
    Option("--cpu-period", value="us", help="Period of the processor limit, in microseconds"),
    Option("--cpu-quota", value="us", help="Processor time in a period, in microseconds"),
    Option("--cpu-share", value="number", help="Weight of processor time"),
    Option("--cpuset-cpus", value="list", help="Processors it may use"),
    Option("--cpuset-mems", value="list", help="Memory nodes it may use"),
    Option("--memory", value="bytes", help="Memory limit"),
    Option("--memory-reservation", value="bytes", help="Memory it is not to be pushed below"),
    Option("--memory-swap", value="bytes", help="Memory and swap together"),
    Option("--pids-limit", value="number", help="How many processes there may be"),
    Option("--resources", "-r", value="file", help="linux.resources as JSON; - is standard input"),
)

_FLAGS = {
    "blkio_weight": ("blockIO", "weight"),
    "cpu_period": ("cpu", "period"),
    "cpu_quota": ("cpu", "quota"),
    "cpu_share": ("cpu", "shares"),
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
    "pids_limit": ("pids", "limit"),
}


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Write the new limits into the container's cgroup."""
    wanted = _from_file(options["resources"]) if options["resources"] else _from_flags(options)
    with Container(context.root, only(arguments)) as container:
        stored = container.state()
        if stored["status"] == "stopped":
            raise Conflict(f"cannot update container {container.id}: it is stopped")
        files = list(Resources(wanted).files())
        if files and not stored.get("cgroup"):
            raise HostUnable(
                f"cannot update container {container.id}: it has no cgroup of its own",
                hint="start it in a delegated cgroup: rootless doctor",
            )
        for _, name, content in files:
            cgroup.write(f"{stored['cgroup']}/{name}", content)
    return 0


def _from_file(path: str) -> dict[str, Any]:
    if path == "-":
        text = sys.stdin.buffer.read(document.MAX_SIZE + 1)
    else:
        with open(path, "rb") as file:
            text = file.read(document.MAX_SIZE + 1)
    return specification.validate_resources(document.load_strict(text, "the resources"))


def _from_flags(options: dict[str, Any]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for dest, (group, key) in _FLAGS.items():
        if options[dest] is None:
            continue
        try:
            wanted.setdefault(group, {})[key] = int(options[dest])
        except ValueError:
            flag = "--" + dest.replace("_", "-")
            raise UsageError(f"{flag}: not a number: {options[dest]}") from None
    for dest, key in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        if options[dest] is not None:
            wanted.setdefault("cpu", {})[key] = options[dest]
    return wanted
