# SPDX-License-Identifier: Apache-2.0
"""The verb exec: one more process in the namespaces of a running container."""

from __future__ import annotations

import os

from rootless.errors import Conflict, Invalid
from rootless.linux import namespaces
from rootless.runtime import cgroup, compose, confine, idmap, launch, process
from rootless.runtime.container import Container
from rootless.runtime.recipe import Recipe
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.launch import Process


class EnterRoot(Step):
    """The container's root, which entering its mount namespace made ours."""

    __slots__ = ()
    name = "root"

    def describe(self) -> str:
        return "the container's own"

    def execute(self, stage: Stage) -> None:
        stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class LeaveRoot(Step):
    """Let go of the descriptor, where `create` would pivot."""

    __slots__ = ()
    name = "pivot"

    def describe(self) -> str:
        return "nothing to do"

    def execute(self, stage: Stage) -> None:
        os.close(stage.root)
        stage.root = -1
        os.chdir("/")


class ExistingCgroup:
    """The cgroup a container is in already."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        """Move a process into it."""
        cgroup.write(f"{self.path}/cgroup.procs", str(pid))


def recipe(
    container: Container, spelled: dict[str, Any], *, ignore_paused: bool = False
) -> tuple[Recipe, int]:
    """How to run `spelled` (a `process` of the specification) in a running container.

    Returns the recipe and a pidfd of process 1, to be closed after the launch. Raises Conflict for
    a container that does not run.
    """
    stored = container.state()
    if stored["status"] not in ("running", "created", "paused" if ignore_paused else "running"):
        raise Conflict(f"cannot exec in container {container.id}: it is {stored['status']}")
    pidfd = container.open_process()
    config = container.config()
    first = f"/proc/{stored['pid']}"
    try:
        kinds = _different_namespaces(first)
    except PermissionError:
        # While it waits process 1 is our program, closed to everybody: what could enter through it
        # could also read it, and write it if it is the caller's own Python (CVE-2019-5736).
        os.close(pidfd)
        raise Conflict(
            f"cannot exec in container {container.id}: its command has not been started",
            hint=f"rootless-oci start {container.id}",
        ) from None
    joins_user = bool(kinds & namespaces.CLONE_NEWUSER)
    id_map = idmap.read(first) if joins_user else idmap.read("/proc/self")
    command = process.Command(
        spelled["args"],
        compose.environment(spelled.get("env", ())),
        spelled.get("cwd") or "/",
        False,
    )
    who = compose.identity(spelled, id_map, None)
    label = compose.label_of(spelled)
    steps: list[Step] = [EnterRoot(), *(label.steps()[:1] if label else ()), LeaveRoot()]
    steps += compose.process_steps(spelled, config.get("linux") or {}, exec_=True)
    made = Recipe(id_map, 0, steps, who, command)
    made.entered = [(pidfd, kinds)] if kinds else ()
    made.joins_user_namespace = joins_user
    if label is not None:
        made.final_steps = [label.steps()[1]]
    made.umask = spelled.get("user", {}).get("umask", 0o022)
    confine.apply(made, spelled, config)
    if stored.get("cgroup") and os.path.isdir(stored["cgroup"]):
        made.cgroup = ExistingCgroup(stored["cgroup"])
    return made, pidfd


def _different_namespaces(first: str) -> int:
    """CLONE_NEW* of the namespaces in which the container is not with us."""
    kinds = 0
    for flag, name in namespaces.BY_NAME.values():
        try:
            theirs, ours = os.readlink(f"{first}/ns/{name}"), os.readlink(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue  # a kind this kernel does not have
        if theirs != ours:
            kinds |= flag
    return kinds


def merged(config: dict[str, Any], **changes: object) -> dict[str, Any]:
    """The container's own `process` with other arguments and settings: what exec runs without -p."""
    spelled = dict(config["process"])
    spelled.pop("terminal", None)
    spelled.update({key: value for key, value in changes.items() if value is not None})
    if not spelled.get("args"):
        raise Invalid("process.args: no command was given")
    return spelled


def start(made: Recipe, pidfd: int) -> Process:
    """Launch it; returns when the command runs."""
    try:
        return launch.start(made)
    finally:
        os.close(pidfd)
