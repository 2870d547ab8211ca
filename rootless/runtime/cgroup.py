# SPDX-License-Identifier: Apache-2.0
"""Limits through cgroup v2: finding a subtree that is ours, and a container's place in it.

The cgroup we were started in is used when its subtree is delegated to us (cgroup-v2.rst,
"Delegation"): a batch job keeps its accounting. Otherwise there are no limits, and asking for one is
an error that says how to get such a subtree.
"""

from __future__ import annotations

import errno
import os
import select

from rootless.errors import HostUnable, Invalid
from rootless.linux import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class HasFiles(Protocol):
        """Limits of either origin."""

        def files(self) -> Iterator[tuple[str, str, str]]:
            """(controller, file, content) for every limit that is set."""
            ...


_MOUNT = "/sys/fs/cgroup"
_PERIOD = 100_000  # microseconds, the kernel's default for cpu.max
_HINT = (
    "systemd-run --user --scope -p Delegate=yes rootless run …  gives one; see also rootless doctor"
)
_LEAF = "rootless-supervisor"


class Limits:
    """What a container may use; 0 is no limit."""

    __slots__ = ("cpus", "memory", "pids")

    def __init__(self, memory: int = 0, cpus: float = 0.0, pids: int = 0) -> None:
        self.memory = memory  # bytes
        self.cpus = cpus
        self.pids = pids

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(controller, file, content) for every limit that is set."""
        if self.memory:
            yield "memory", "memory.max", str(self.memory)
            # docker: --memory without --memory-swap allows the same again in swap.
            yield "memory", "memory.swap.max", str(self.memory)
        if self.cpus:
            yield "cpu", "cpu.max", f"{int(self.cpus * _PERIOD)} {_PERIOD}"
        if self.pids:
            yield "pids", "pids.max", str(self.pids)


class Place:
    """One container's cgroup: made when the first process is added, removed at the end."""

    __slots__ = ("_parent", "limits", "path", "reason")

    def __init__(self, path: str, limits: HasFiles, reason: str) -> None:
        self._parent = path.rpartition("/")[0]
        self.limits = limits
        self.path = path
        self.reason = reason

    def add(self, pid: int) -> None:
        """Make the cgroup with its limits and move a process into it; raises HostUnable."""
        files = list(self.limits.files())
        try:
            os.makedirs(self._parent, exist_ok=True)
            _enable(self._parent, sorted({controller for controller, _, _ in files}))
            os.makedirs(self.path, exist_ok=True)
            for _, name, content in files:
                write(f"{self.path}/{name}", content)
            write(f"{self.path}/cgroup.procs", str(pid))
        except OSError as problem:
            self.remove()
            raise HostUnable(
                f"cannot limit the container: {problem.filename}: {str(problem.strerror).lower()}",
                hint=_HINT,
            ) from None

    def remove(self) -> None:
        """Remove the cgroup; a process still in it is killed first."""
        remove(self.path)


def remove(path: str) -> None:
    """Remove a container's cgroup and those made below it; a process still in one is killed first."""
    try:
        os.rmdir(path)
        return
    except FileNotFoundError:
        return
    except OSError:
        _write_if_there(f"{path}/cgroup.kill", "1")
    for _ in range(1000):
        for below, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(below)
            except OSError as problem:
                if problem.errno != errno.EBUSY:
                    return
        if not os.path.exists(path):
            return
        os.sched_yield()  # the killed are on their way out


def plan(container_id: str, limits: Limits) -> Place:
    """Where a container with limits will be; raises HostUnable when nothing is delegated to us."""
    made = place("", container_id, limits)
    assert made is not None  # limits that cannot be had are an error
    return made


def place(wanted: str, container_id: str, limits: HasFiles) -> Place | None:
    """The cgroup for a container; `wanted` is linux.cgroupsPath, or "" for our own choice.

    Without a delegated place the container stays where we are (None), unless there are limits:
    then HostUnable says which controller is missing and how to get it.
    """
    missing = sorted({controller for controller, _, _ in limits.files()})
    own = own_directory()
    if not own:
        if not missing:
            return None
        raise HostUnable(
            f"cannot limit {', '.join(missing)}: this machine has no cgroup v2 hierarchy at {_MOUNT}",
            hint="boot with systemd.unified_cgroup_hierarchy=1, or run without the limit",
        )
    path = _path(wanted, own, container_id)
    delegated = _delegated_above(path)
    if not delegated:
        if not missing:
            return None
        raise HostUnable(
            f"cannot limit {', '.join(missing)}: the cgroup {own} is not delegated to you",
            hint=_HINT,
        )
    available = _read(f"{delegated}/cgroup.controllers").split()
    lacking = [controller for controller in missing if controller not in available]
    if lacking:
        raise HostUnable(
            f"cannot limit {', '.join(lacking)}: the controller is not delegated to {delegated}",
            hint="sudo systemctl edit user@.service, add: [Service] Delegate=cpu cpuset io memory pids",
        )
    asked = "asked for" if wanted else "below the cgroup we were started in"
    return Place(path, limits, f"{asked}; delegated to us")


def _path(wanted: str, own: str, container_id: str) -> str:
    """Absolute below the hierarchy's root, relative below our own; systemd's slice:prefix:name too."""
    if wanted.count(":") == 2:
        _, prefix, name = wanted.split(":")
        wanted = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    parts = [part for part in wanted.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Invalid(f"linux.cgroupsPath: leads out of the hierarchy: {wanted}")
    if not parts:
        return f"{own}/rootless-{container_id}"
    return "/".join((_MOUNT if wanted.startswith("/") else own, *parts))


def _delegated_above(path: str) -> str:
    """The nearest cgroup above `path` that exists, when it is ours; else ""."""
    above = path.rpartition("/")[0]
    while not os.path.isdir(above):
        above = above.rpartition("/")[0]
    ours = os.access(above, os.W_OK) and os.access(f"{above}/cgroup.procs", os.W_OK)
    return above if ours else ""


def processes(path: str) -> list[int]:
    """The pids in a cgroup and in those below it."""
    found = []
    for directory, _, _ in os.walk(path):
        found += [int(pid) for pid in _read(f"{directory}/cgroup.procs").split()]
    return found


def freeze(path: str, frozen: bool) -> None:
    """Stop or continue everything in a cgroup, and wait until it is so (cgroup-v2.rst, cgroup.freeze)."""
    write(f"{path}/cgroup.freeze", "1" if frozen else "0")
    fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while f"frozen {int(frozen)}".encode() not in os.pread(fd, 4096, 0):
            poll.poll(100)
    finally:
        os.close(fd)


def own_directory() -> str:
    """The directory of the cgroup we are in, "" without a v2 hierarchy where it is expected."""
    try:
        fd = os.open(_MOUNT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if host.file_system_type(fd) != host.CGROUP2_SUPER_MAGIC:
            return ""
    finally:
        os.close(fd)
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            path = _MOUNT + line[3:].rstrip("/")
            # Where an earlier container moved us to, so that it could have limits beside us.
            path = path.removesuffix("/" + _LEAF)
            return path if os.path.isdir(path) else ""
    return ""


def _enable(parent: str, controllers: list[str]) -> None:
    """Let children of `parent` use the controllers.

    A cgroup with enabled controllers may hold no process itself ("no internal processes" in
    cgroup-v2.rst), so whoever is in it, we among them, moves to a leaf below.
    """
    enabled = _read(f"{parent}/cgroup.subtree_control").split()
    wanted = " ".join(f"+{name}" for name in controllers if name not in enabled)
    if not wanted:
        return
    try:
        write(f"{parent}/cgroup.subtree_control", wanted)
        return
    except OSError as problem:
        if problem.errno != errno.EBUSY:
            raise HostUnable(
                f"cannot enable {wanted} in {parent}: {str(problem.strerror).lower()}", hint=_HINT
            ) from None
    leaf = f"{parent}/{_LEAF}"
    try:
        os.makedirs(leaf, exist_ok=True)
        for pid in _read(f"{parent}/cgroup.procs").split():
            write(f"{leaf}/cgroup.procs", pid)
        write(f"{parent}/cgroup.subtree_control", wanted)
    except OSError as problem:
        raise HostUnable(
            f"cannot enable {wanted} in {parent}: {str(problem.strerror).lower()}", hint=_HINT
        ) from None


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Write a file of the hierarchy; OSError names it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, path) from None
    finally:
        os.close(fd)


def _write_if_there(path: str, text: str) -> None:
    try:
        write(path, text)
    except OSError:
        pass
