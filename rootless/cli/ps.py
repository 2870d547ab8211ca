# SPDX-License-Identifier: Apache-2.0
"""`rootless ps`: the list of containers."""

from __future__ import annotations

import time

from rootless.cli.options import Option
from rootless.cli.table import ellipsis, human_duration, human_size, local_time, print_listing
from rootless.cli.template_functions import quoted
from rootless.engine import containers, filters
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.containers import Container
    from rootless.paths import Paths

USAGE = "rootless ps [OPTIONS]"
DESCRIPTION = "List containers; those that run, unless told otherwise."
ARGUMENTS = (0, 0)
OPTIONS = (
    Option("--all", "-a", help="Show all containers, not only those that run"),
    Option(
        "--filter",
        "-f",
        value="filter",
        many=True,
        help=f"Only show what fits KEY=VALUE; keys: {', '.join(filters.CONTAINER_KEYS)}",
    ),
    Option("--format", value="string", help="table, json, `table TEMPLATE` or a Go template"),
    Option("--last", "-n", value="int", default="-1", help="Show the n newest, in any state"),
    Option("--latest", "-l", help="Show the newest, in any state"),
    Option("--no-trunc", help="Do not shorten ids and commands"),
    Option("--quiet", "-q", help="Only show ids"),
    Option("--size", "-s", help="Show sizes: of the writable layer, and with the image"),
)

_HEADINGS = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ExitCode": "EXIT CODE",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Pid": "PID",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def run(options: dict[str, Any], _arguments: list[str], paths: Paths) -> int:
    """Print the containers that were asked for, the newest first."""
    found = _choose(options, paths)
    form, columns = options["format"] or "", list(_COLUMNS)
    if options["quiet"] and not form:
        form = "{{.ID}}"
    with_size = options["size"] or ".Size" in form
    if options["size"]:
        columns.append("Size")
    now = time.time()
    rows = [
        _row(item, now, whole=options["no_trunc"], size=_size(paths, item) if with_size else "0B")
        for item in found
    ]
    print_listing(rows, _HEADINGS, columns, form)
    return 0


def _choose(options: dict[str, Any], paths: Paths) -> list[Container]:
    chosen = filters.parse(options["filter"], filters.CONTAINER_KEYS)
    last = 1 if options["latest"] else _number(options["last"])
    all_states = options["all"] or last > 0 or "status" in chosen or "exited" in chosen
    found = [item for item in containers.list(paths) if all_states or item.is_running]
    found = filters.choose_containers(paths, found, chosen)
    return found[:last] if last > 0 else found


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f'invalid argument "{text}" for --last: not a number') from None


def _row(item: Container, now: float, *, whole: bool, size: str) -> dict[str, Any]:
    command = " ".join(item.command)
    return {
        "Command": quoted(command if whole else ellipsis(command, 20)),
        "CreatedAt": local_time(item.created),
        "ExitCode": item.exit_code,
        "ID": item.id if whole else item.id[:12],
        "Image": item.image,
        "Label": lambda name: item.labels.get(name, ""),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(item.labels.items())),
        "LocalVolumes": "0",
        "Mounts": "",
        "Names": item.name,
        "Networks": "",
        "Pid": item.pid,
        "Ports": "",
        "RunningFor": human_duration(now - item.created) + " ago",
        "Size": size,
        "State": item.status,
        "Status": _status(item, now),
    }


def _status(item: Container, now: float) -> str:
    """docker's sentence: `Up 2 hours`, `Exited (0) 5 minutes ago`, `Created`."""
    if item.is_running:
        return f"Up {human_duration(now - (item.started or item.created))}"
    if item.status == "created":
        return "Created"
    ended = f"Exited ({item.exit_code})"
    return f"{ended} {human_duration(now - item.finished)} ago" if item.finished else ended


def _size(paths: Paths, item: Container) -> str:
    own, whole = containers.sizes(paths, item)
    return f"{human_size(own)} (virtual {human_size(whole)})"
