# SPDX-License-Identifier: Apache-2.0
"""The members of config.json as types, for the checker alone: nothing imports this at run time.

What each one means is in the runtime specification, config.md and config-linux.md; `oci.runtime`
checks that a document is like this.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Mapping(TypedDict):
    """Ids of a user namespace or of a mount."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict):
    """An element of `mounts`."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[Mapping]]
    gidMappings: NotRequired[list[Mapping]]


class User(TypedDict, total=False):
    """`process.user`; the ids are the container's."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]


class ConsoleSize(TypedDict):
    """`process.consoleSize`, in characters."""

    height: int
    width: int


class Capabilities(TypedDict, total=False):
    """`process.capabilities`: names of capabilities(7)."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Limit(TypedDict):
    """An element of `process.rlimits`."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict):
    """`process.scheduler`: the arguments of sched_setattr(2)."""

    policy: str
    nice: NotRequired[int]
    priority: NotRequired[int]
    flags: NotRequired[list[str]]
    runtime: NotRequired[int]
    deadline: NotRequired[int]
    period: NotRequired[int]


# The functional form, because a member is called `class`.
IoPriority = TypedDict("IoPriority", {"class": str, "priority": NotRequired[int]})


class Affinity(TypedDict, total=False):
    """`process.execCPUAffinity`: lists of processors, before and after entering the cgroup."""

    initial: str
    final: str


class Process(TypedDict):
    """`process`."""

    args: list[str]
    cwd: str
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    user: NotRequired[User]
    env: NotRequired[list[str]]
    capabilities: NotRequired[Capabilities]
    rlimits: NotRequired[list[Limit]]
    noNewPrivileges: NotRequired[bool]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]
    oomScoreAdj: NotRequired[int]
    scheduler: NotRequired[Scheduler]
    ioPriority: NotRequired[IoPriority]
    execCPUAffinity: NotRequired[Affinity]


class Hook(TypedDict):
    """An element of one of the arrays in `hooks`."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Device(TypedDict):
    """An element of `linux.devices`."""

    type: str
    path: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class Clock(TypedDict, total=False):
    """A member of `linux.timeOffsets`."""

    secs: int
    nanosecs: int


class IntelRdt(TypedDict, total=False):
    """`linux.intelRdt`."""

    closID: str
    l3CacheSchema: str
    memBwSchema: str
    enableCMT: bool
    enableMBM: bool


class Personality(TypedDict):
    """`linux.personality`."""

    domain: str
    flags: NotRequired[list[str]]
