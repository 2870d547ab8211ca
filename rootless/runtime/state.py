# SPDX-License-Identifier: Apache-2.0
"""What runs now: one small file a container in the runtime directory, believed only as far as facts go.

A process is known by boot id, pid and start time together, so that neither a reboot nor a recycled
pid makes a dead container look alive or a foreign process look like ours.
"""

from __future__ import annotations

import os

from rootless.errors import HostUnable, Invalid, NotFound
from rootless.linux import process
from rootless.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"
_FILE = "/state.json"


def ensure_runtime_directory(run: str) -> None:
    """Make the runtime directory; raises HostUnable when it is not ours alone.

    Below /tmp somebody else may have made it first, to read or replace what we write there.
    """
    try:
        status = os.lstat(run)
    except FileNotFoundError:
        try:
            os.makedirs(run, 0o700)
        except OSError as problem:
            reason = (problem.strerror or "").lower()
            raise HostUnable(
                f"cannot make the runtime directory {run}: {reason}",
                hint="export ROOTLESS_RUN=/a/directory/of/yours",
            ) from None
        status = os.lstat(run)
    if status.st_mode & 0o170000 != 0o040000 or status.st_uid != os.getuid():
        raise HostUnable(
            f"the runtime directory {run} belongs to somebody else",
            hint="export ROOTLESS_RUN=/a/directory/of/yours",
        )
    if status.st_mode & 0o022:
        raise HostUnable(
            f"others may write to the runtime directory {run}",
            hint=f"chmod go-w {run}, or export ROOTLESS_RUN=/a/directory/of/yours",
        )


def save(
    directory: str, container_id: str, pid: int, bundle: str, annotations: dict[str, str]
) -> None:
    """Write state.json in `directory`, which is made (0700); `pid` is the container's process 1."""
    os.makedirs(directory, 0o700, exist_ok=True)
    write(directory, describe(container_id, pid, bundle, annotations))


def describe(
    container_id: str, pid: int, bundle: str, annotations: dict[str, str]
) -> dict[str, Any]:
    """The state of a container whose process 1 is `pid`, which must be a child of ours."""
    return {
        "ociVersion": OCI_VERSION,
        "id": container_id,
        "status": "running",
        "pid": pid,
        "bundle": bundle,
        "annotations": annotations,
        "bootId": process.boot_id(),
        "startTime": process.start_time(pid),
    }


def write(directory: str, state: dict[str, Any]) -> None:
    """Replace state.json; a reader sees the old one or the new one."""
    temporary = f"{directory}/.state-{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, document.dumps(state))
    finally:
        os.close(fd)
    os.rename(temporary, directory + _FILE)


def load(directory: str) -> dict[str, Any] | None:
    """The state written in `directory`, or None when there is none or it is damaged."""
    try:
        state: dict[str, Any] = document.load(directory + _FILE)
    except (FileNotFoundError, Invalid):
        return None
    return state if isinstance(state, dict) else None


def is_alive(state: dict[str, Any] | None) -> bool:
    """True while the very process that the state is about exists."""
    if state is None or state.get("bootId") != process.boot_id():
        return False
    pid = state.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        return process.start_time(pid) == state.get("startTime")
    except ProcessLookupError:
        return False


def status(state: dict[str, Any] | None) -> str:
    """The runtime specification's word: created, running or stopped; also paused, as runc says."""
    if not is_alive(state):
        return "stopped"
    assert state is not None
    if state.get("paused"):
        return "paused"
    return str(state.get("status", "running"))


def open_process(state: dict[str, Any]) -> int:
    """A pidfd of the container's process 1; raises NotFound when it has ended.

    Opened first and checked afterwards: then the descriptor cannot name a later process.
    """
    try:
        pidfd = process.pidfd_open(state["pid"])
    except ProcessLookupError:
        raise NotFound(f"container {state['id']} is not running") from None
    if not is_alive(state):
        os.close(pidfd)
        raise NotFound(f"container {state['id']} is not running")
    return pidfd


def remove(directory: str) -> None:
    """Forget; a directory that is gone is fine."""
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        pass
