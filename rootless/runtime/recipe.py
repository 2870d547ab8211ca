# SPDX-License-Identifier: Apache-2.0
"""All that a launch will do, as data: what `--explain` prints and what the forked child executes."""

from __future__ import annotations

from rootless.linux.namespaces import CLONE_NEWUSER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from rootless.runtime.idmap import IdMap
    from rootless.runtime.process import Command, Identity
    from rootless.runtime.rootfs import Step

    class Server(Protocol):
        """A process the container's root file system needs: started in its namespaces, outside its pid namespace."""

        def start(self) -> int:
            """Start it; returns its pid."""
            ...

    class Cgroup(Protocol):
        """A cgroup the container lives in."""

        def add(self, pid: int) -> None:
            """Move a process into it."""
            ...


class Recipe:
    """One launch. Filled by `runtime.compose` and the verb that launches, never changed after the fork."""

    __slots__ = (
        "cgroup", "clock_offsets", "command", "dies_with_parent", "entered", "final_steps", "forwards_signals", "gate",
        "hooks", "id_map", "identity", "joins_user_namespace", "kept", "listener", "owned_streams", "private",
        "privileged_steps", "server", "steps", "streams", "umask", "unshare",
    )  # fmt: skip

    def __init__(
        self,
        id_map: IdMap,
        unshare: int,
        steps: Sequence[Step],
        identity: Identity,
        command: Command,
    ) -> None:
        self.id_map = id_map
        self.unshare = unshare  # CLONE_NEW* of unshare(2)
        self.entered: Sequence[
            tuple[int, int]
        ] = ()  # (descriptor, CLONE_NEW*) for setns(2), before
        self.joins_user_namespace = False  # whether one of those is a user namespace
        self.steps = steps  # up to and including the pivot
        self.privileged_steps: Sequence[Step] = ()  # before the identity is assumed
        self.final_steps: Sequence[Step] = ()  # last before the exec
        self.identity = identity
        self.command = command
        self.server: Server | None = None
        self.cgroup: Cgroup | None = None
        self.hooks: Callable[[int], None] | None = None  # on the host's side, given the pid
        self.listener: Callable[[int], None] | None = None  # takes the filter's notifications
        self.clock_offsets = b""  # for /proc/PID/timens_offsets
        self.streams = (0, 1, 2)  # what becomes standard input, output and error
        self.owned_streams: tuple[int, ...] = ()  # streams of ours, given to the container's user
        self.kept = 0  # how many descriptors from 3 on the command inherits
        self.private: tuple[int, ...] = ()  # descriptors, such as locks, that stay with the parent
        self.gate = -1  # a fifo to wait at before the exec
        self.dies_with_parent = True
        self.forwards_signals = False  # the parent stays, and what it is sent is for the container
        self.umask = 0o022

    @property
    def changes_user_namespace(self) -> bool:
        """True when the child starts without an id of the namespace it works in."""
        return bool(self.unshare & CLONE_NEWUSER) or self.joins_user_namespace

    @property
    def needs_ids_early(self) -> bool:
        """True when the first child has to wait before it makes the other namespaces.

        A cgroup namespace's root is the cgroup we are in when we make it; a FUSE server must live
        outside the container's mount namespace, and mount as its root.
        """
        return self.cgroup is not None or self.server is not None

    def insert_before(self, name: str, *steps: Step) -> None:
        """Put steps in front of the first one with that name; ValueError when there is none."""
        names = [step.name for step in self.steps]
        place = names.index(name)
        self.steps = [*self.steps[:place], *steps, *self.steps[place:]]
