# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci events`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from rootless.cli.oci.main import only
from rootless.cli.options import Option
from rootless.errors import Conflict, UsageError
from rootless.oci import document
from rootless.runtime import kill
from rootless.runtime.container import Container

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci events [OPTIONS] CONTAINER"
DESCRIPTION = "Print what a container uses, as JSON, one object a line"
OPTIONS = (
    Option("--interval", value="duration", default="5s", help="Time between two lines, such as 5s"),
    Option("--stats", help="Print one line and end"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Print usage until the container ends."""
    container = Container(context.root, only(arguments))
    pause = _seconds(options["interval"])
    stored = container.state()
    if stored["status"] == "stopped":
        raise Conflict(f"container {container.id} is not running")
    while stored["status"] != "stopped":
        line = {"type": "stats", "id": container.id, "data": usage(stored)}
        print(document.dumps(line).decode(), flush=True)
        if options["stats"]:
            return 0
        time.sleep(pause)
        stored = container.state()
    return 0


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0}
    for unit, factor in units.items():
        if text.endswith(unit) and text.removesuffix(unit).replace(".", "", 1).isdecimal():
            return float(text.removesuffix(unit)) * factor
    raise UsageError(f"--interval: not a duration: {text}", hint="use 5s")


def usage(stored: dict[str, Any]) -> dict[str, Any]:
    """CPU, memory and processes in runc's shape: of the cgroup, else summed over the processes."""
    path = stored.get("cgroup", "")
    if path and os.path.exists(path + "/cpu.stat"):
        return _of_cgroup(path)
    pids = kill.processes(stored)
    ticks = resident = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": {"usage": {"total": ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")}},
        "memory": {"usage": {"usage": resident}},
        "pids": {"current": len(pids)},
    }


def _of_cgroup(path: str) -> dict[str, Any]:
    cpu = _pairs(path + "/cpu.stat")
    found: dict[str, Any] = {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "memory": {
            "usage": {
                "usage": _number(path + "/memory.current"),
                "limit": _number(path + "/memory.max"),
            }
        },
        "pids": {"current": _number(path + "/pids.current"), "limit": _number(path + "/pids.max")},
    }
    found["memory"]["raw"] = _pairs(path + "/memory.stat")
    return found


def _pairs(path: str) -> dict[str, int]:
    try:
        with open(path, encoding="ascii") as file:
            return {key: int(value) for key, value in (line.split() for line in file)}
    except OSError:
        return {}


def _number(path: str) -> int:
    """A number in a file; 0 for "max" and for a controller that is not there."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
