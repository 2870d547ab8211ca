# SPDX-License-Identifier: Apache-2.0
"""A container of the OCI runtime command line: its state directory, and what may be done with it when.

<root>/<id>/         0700; the lock of the directory is held while a verb is at work
    state.json       runtime.state
    config.json      the configuration as it was at `create`: the bundle may change or go
    exec.fifo        while created: whoever writes to it starts the command
"""

from __future__ import annotations

import errno
import fcntl
import os

from rootless.errors import Conflict, Invalid, NotFound, UsageError
from rootless.linux import tree
from rootless.oci import document
from rootless.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")
_REST = _FIRST | {"."}
_MAX_ID = 255
_STATE = "/state.json"
# What nobody can do without, and its type.
_MEMBERS = {"id": str, "pid": int, "status": str, "bundle": str, "bootId": str, "startTime": int}


def is_id(text: str) -> bool:
    """Whether it can be the name of a directory and nothing else."""
    return 0 < len(text) <= _MAX_ID and text[0] in _FIRST and _REST.issuperset(text)


def check_id(container_id: str) -> str:
    """The id itself; raises UsageError when it is none."""
    if not is_id(container_id):
        raise UsageError(
            f"invalid container id: {container_id!r}",
            hint="use letters, digits, _ + - and, after the first character, dots",
        )
    return container_id


class Container:
    """One container by its id. As a context manager it holds the container's lock."""

    __slots__ = ("lock", "directory", "id")

    def __init__(self, root: str, container_id: str) -> None:
        self.id = check_id(container_id)
        self.directory = f"{root}/{container_id}"
        self.lock = -1  # the descriptor that holds it

    @property
    def fifo(self) -> str:
        """Where a created container waits for `start`."""
        return self.directory + "/exec.fifo"

    # -- the lock ---------------------------------------------------------------------------------

    def __enter__(self) -> Container:
        """Wait for the lock, unless `make` got it; raises NotFound."""
        if self.lock < 0 and not self._take(fcntl.LOCK_EX):
            raise NotFound(f"container {self.id} does not exist")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.lock)
        self.lock = -1

    def make(self) -> None:
        """Make the state directory and lock it; raises Conflict when there is one.

        What a killed `create` left, without a state, is taken over. Whoever gets the lock of a
        directory that has no state yet is its maker: of many at once it is one.
        """
        try:
            os.mkdir(self.directory, 0o700)
        except FileExistsError:
            pass
        try:
            is_ours = self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
        if not is_ours or os.path.exists(self.directory + _STATE):
            if self.lock >= 0:
                self.__exit__(None, None, None)
            raise Conflict(f"container with id exists: {self.id}")
        for name in os.listdir(self.directory):
            os.unlink(f"{self.directory}/{name}")

    def _take(self, operation: int) -> bool:
        """Lock the directory of that name; False when there is none, also because it was deleted meanwhile."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, operation)
            if os.path.samestat(os.fstat(fd), os.stat(self.directory)):
                self.lock, fd = fd, -1
                return True
        except FileNotFoundError:
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        return False

    def remove(self) -> None:
        """Forget the container."""
        tree.remove(self.directory)

    # -- what is known ----------------------------------------------------------------------------

    def stored(self) -> dict[str, Any]:
        """The state as it is written; raises NotFound, and Invalid for one that is damaged."""
        stored = state.load(self.directory)
        if stored is None and not os.path.exists(self.directory + _STATE):
            raise NotFound(f"container {self.id} does not exist")
        if stored is None or any(
            not isinstance(stored.get(name), kind) for name, kind in _MEMBERS.items()
        ):
            raise Invalid(
                f"the state of container {self.id} is damaged",
                hint=f"rootless-oci delete --force {self.id}",
            )
        return stored

    def state(self) -> dict[str, Any]:
        """The stored state with the status as it is now; raises NotFound or Invalid."""
        stored = self.stored()
        stored["status"] = state.status(stored)
        if stored["status"] == "stopped":
            stored["pid"] = 0
        return stored

    def config(self) -> dict[str, Any]:
        """The configuration the container was created with."""
        config: dict[str, Any] = document.load(self.directory + "/config.json")
        return config

    def update(self, **fields: object) -> None:
        """Change fields of the stored state."""
        stored = state.load(self.directory)
        if stored is not None:
            state.write(self.directory, {**stored, **fields})

    def open_process(self) -> int:
        """A pidfd of process 1; raises NotFound for a stopped container."""
        return state.open_process(self.stored())

    def open_gate(self) -> int:
        """The fifo, to write to; raises Conflict when nobody waits at it."""
        try:
            return os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            if problem.errno in (errno.ENXIO, errno.ENOENT):
                status = self.state()["status"]
                raise Conflict(f"cannot start container {self.id}: it is {status}") from None
            raise


def public(stored: dict[str, Any]) -> dict[str, Any]:
    """The part of a state that the specification names (runtime.md, "State"), and runc's additions."""
    keys = (
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
        "annotations",
    )
    return {key: stored[key] for key in keys if key in stored}


def listed(root: str) -> list[Container]:
    """Every container below `root`."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if os.path.exists(f"{root}/{name}{_STATE}") and is_id(name):
            found.append(Container(root, name))
    return found
