# SPDX-License-Identifier: Apache-2.0
"""The verbs kill, pause, resume, ps and delete: what is done to processes that exist."""

from __future__ import annotations

import _signal
import os
import select

from rootless import log
from rootless.errors import Conflict, HostUnable, Invalid, NotFound, RootlessError, UsageError
from rootless.linux import process
from rootless.runtime import cgroup, hooks, state
from rootless.runtime.container import Container, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_END = 10_000  # milliseconds a killed process may take


def signal_number(text: str) -> int:
    """A signal by number or name, with or without SIG; raises UsageError."""
    if text.isascii() and text.isdecimal():
        number = int(text)
    else:
        name = text.upper()
        name = name if name.startswith("SIG") else "SIG" + name
        number = getattr(_signal, name, 0) if name.isalnum() else _real_time(name)
    if not 0 < number < _signal.NSIG:
        raise UsageError(f"no such signal: {text}", hint="signal(7) lists them, such as TERM or 15")
    return int(number)


def _real_time(name: str) -> int:
    """SIGRTMIN+n and SIGRTMAX-n."""
    for base, sign in (("SIGRTMIN+", 1), ("SIGRTMAX-", -1)):
        if name.startswith(base) and name[len(base) :].isdecimal():
            return int(getattr(_signal, base[:-1])) + sign * int(name[len(base) :])
    return 0


def kill(root: str, container_id: str, number: int, *, everybody: bool = False) -> None:
    """Send a signal to process 1, or with `everybody` to each process of the container.

    Raises Conflict for a container that is neither created nor running. One that has ended is no
    error with `everybody`, as with runc.
    """
    container = Container(root, container_id)
    stored = container.state()
    if stored["status"] == "stopped":
        if everybody:
            return
        raise Conflict(f"cannot kill container {container_id}: it is not running")
    if not everybody:
        _send(container, number)
        return
    path = stored.get("cgroup", "")
    if number == _signal.SIGKILL and path and os.path.exists(f"{path}/cgroup.kill"):
        cgroup.write(f"{path}/cgroup.kill", "1")
        return
    for pid in processes(stored):
        _send_to(pid, number)


def _send(container: Container, number: int) -> None:
    try:
        pidfd = container.open_process()
    except NotFound:
        raise Conflict(f"cannot kill container {container.id}: it is not running") from None
    try:
        process.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _send_to(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def processes(stored: dict[str, Any]) -> list[int]:
    """The pids of a container's processes, process 1 first, as we see them.

    By its cgroup, or where it has none by its pid namespace.
    """
    path = stored.get("cgroup", "")
    if path and os.path.isdir(path):
        return sorted(cgroup.processes(path))
    first = stored["pid"]
    found = []
    wanted = _pid_namespace(first)
    if wanted in ("", _pid_namespace(os.getpid())):
        # It shares ours: nothing tells its processes from others. Or it waits for `start`, in our
        # program, into which nobody can look: then it is alone.
        return [first]
    for name in os.listdir("/proc"):
        if name.isdecimal() and _pid_namespace(int(name)) == wanted:
            found.append(int(name))
    return sorted(found, key=lambda pid: (pid != first, pid))


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""  # it is gone, or not ours


def pause(root: str, container_id: str) -> None:
    """Freeze every process: through the cgroup, or by SIGSTOP where the container has none."""
    with Container(root, container_id) as container:
        stored = container.state()
        if stored["status"] not in ("running", "created"):
            raise Conflict(f"cannot pause container {container_id}: it is {stored['status']}")
        if not _freeze(stored, True):
            _stop_all(stored)
        container.update(paused=True)


def resume(root: str, container_id: str) -> None:
    """Undo `pause`."""
    with Container(root, container_id) as container:
        stored = container.state()
        if stored["status"] != "paused":
            raise Conflict(f"cannot resume container {container_id}: it is not paused")
        if not _freeze(stored, False):
            for pid in processes(stored):
                _send_to(pid, _signal.SIGCONT)
        container.update(paused=False)


def _freeze(stored: dict[str, Any], frozen: bool) -> bool:
    path = stored.get("cgroup", "")
    if not path or not os.path.exists(f"{path}/cgroup.freeze"):
        return False
    cgroup.freeze(path, frozen)
    return True


def _stop_all(stored: dict[str, Any]) -> None:
    """SIGSTOP until no new process has appeared meanwhile."""
    stopped: set[int] = set()
    while new := [pid for pid in processes(stored) if pid not in stopped]:
        for pid in new:
            _send_to(pid, _signal.SIGSTOP)
        stopped.update(new)


def delete(root: str, container_id: str, *, force: bool = False) -> None:
    """Forget a stopped container and remove its cgroup; `force` kills it first.

    With `force` a container that does not exist is no error. Raises Conflict for one that runs.
    """
    container = Container(root, container_id)
    try:
        with container:
            stored = _remains(container) if force else container.stored()
            if state.is_alive(stored):
                if not force and state.status(stored) != "created":
                    raise Conflict(
                        f"cannot delete container {container_id}: it is not stopped",
                        hint=f"rootless-oci delete --force {container_id}",
                    )
                end(container, stored)
            if stored.get("cgroup"):
                cgroup.remove(stored["cgroup"])
            after = (_config(container).get("hooks") or {}).get("poststop")
            container.remove()
    except NotFound:
        if force:
            return
        raise
    if after:
        # "The remaining hooks and lifecycle continue as if the hook had succeeded" (runtime.md).
        for problem in hooks.run_all(after, {**public(stored), "status": "stopped", "pid": 0}):
            log.warning(f"poststop: {problem.strerror}", hook=problem.filename)


def _remains(container: Container) -> dict[str, Any]:
    """What is known of a container: nothing where the state is damaged, or a killed `create` wrote none."""
    try:
        return container.stored()
    except (NotFound, Invalid):
        return {"id": container.id, "pid": 0}


def _config(container: Container) -> dict[str, Any]:
    try:
        return container.config()
    except (OSError, RootlessError):
        return {}  # a killed `create` had not written it yet


def end(container: Container, stored: dict[str, Any]) -> None:
    """SIGKILL for process 1, and wait until it is gone; raises HostUnable when that takes too long."""
    try:
        pidfd = container.open_process()
    except NotFound:
        return
    try:
        if stored.get("paused"):
            _freeze(stored, False)
        process.pidfd_send_signal(pidfd, _signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_END):
            raise HostUnable(
                f"cannot kill container {container.id}: process {stored['pid']} does not end",
                hint=f"see what it waits for: cat /proc/{stored['pid']}/stack",
            )
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
