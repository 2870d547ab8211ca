# SPDX-License-Identifier: Apache-2.0
"""The containers of a store: listing, finding and removing them; starting them is `engine.run`'s."""

from __future__ import annotations

import builtins
import os
import select
import signal
import time
from dataclasses import dataclass

from rootless import log
from rootless.engine import names
from rootless.engine.sweep import sweep
from rootless.errors import Conflict, Invalid, NotFound, RootlessError
from rootless.images import records
from rootless.linux import process
from rootless.oci import document
from rootless.runtime import idmap, state, userns
from rootless.storage import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

# The exit code docker gives a container whose end nobody saw: after a reboot, or kill -9.
_UNKNOWN_END = 255
_KILL_SECONDS = 10


@dataclass(frozen=True)
class Container:
    """One container as its record and its state tell at one moment; times are seconds since 1970.

    `status` is docker's word: created, running or exited. `pid` is 0 unless it runs. `exit_code` is
    0 until it ended.
    """

    id: str
    name: str
    created: float
    image: str
    image_id: str
    command: tuple[str, ...]
    labels: dict[str, str]
    status: str
    pid: int
    exit_code: int
    started: float | None
    finished: float | None
    record: dict[str, Any]

    @property
    def is_running(self) -> bool:
        """True while its first process lives."""
        return self.status == "running"


def list(paths: Paths) -> builtins.list[Container]:
    """Every container of the store, the newest first. A record that cannot be read is left out, with a warning."""
    sweep(paths)
    return known(paths)


def known(paths: Paths) -> builtins.list[Container]:
    """`list`, without clearing up after killed ones first: changes nothing."""
    found = (_load(paths, container_id) for container_id in _ids(paths))
    return sorted((item for item in found if item), key=lambda item: (-item.created, item.id))


def find(paths: Paths, text: str) -> Container | None:
    """The container with that name, id or unambiguous prefix of an id, or None.

    Raises Conflict when a prefix fits several ids. A name wins over an id, as in docker.
    """
    container_id = _id_of_name(paths, text)
    if container_id is None:
        # The link is damaged; the record still knows the name.
        container_id = next((item.id for item in list(paths) if item.name == text), None)
    if container_id is None:
        ids = [each for each in _ids(paths) if text and each.startswith(text)]
        if len(ids) > 1:
            raise Conflict(
                f"several containers have an id that begins with {text}",
                hint="give more of the id: rootless ps -a --no-trunc",
            )
        container_id = ids[0] if ids else None
    return _load(paths, container_id) if container_id else None


def get(paths: Paths, text: str) -> Container:
    """Like `find`, but a container that is not there raises NotFound."""
    found = find(paths, text)
    if found is None:
        raise NotFound(f"no such container: {text}", hint="rootless ps -a")
    return found


def remove(paths: Paths, container: Container, *, force: bool = False) -> None:
    """Delete a container and everything of it; with `force` also one that runs, which is killed.

    Raises Conflict for one that runs, or is about to, without `force`. Whatever moment this is ended
    at, the container is afterwards whole, or gone but for recognisable garbage.
    """
    shown = container.name or container.id[:12]
    if container.is_running and not force:
        raise Conflict(
            f"cannot remove container {shown}: it is running", hint=f"rootless rm -f {shown}"
        )
    try:
        holding = os.open(
            paths.container(container.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except FileNotFoundError:
        return  # its own --rm, or another rm, was faster
    try:
        _hold(paths, container, holding, force=force)
        doomed = f"{paths.tmp}/container.{container.id}"
        os.rename(paths.container(container.id), doomed)
        names.release(paths, container.name, container.id)
        state.remove(paths.state_directory(container.id))
        userns.remove_tree(idmap.default(), doomed)
    except FileNotFoundError:
        return
    finally:
        os.close(holding)
    log.info("container.removed", id=container.id)


def _hold(paths: Paths, container: Container, directory: int, *, force: bool) -> None:
    """Lock the container's directory, which whoever runs it holds locked; it then is ours to delete.

    The lock goes with the directory to tmp/, where it keeps the sweep away.
    """
    shown = container.name or container.id[:12]
    give_up = time.monotonic() + _KILL_SECONDS
    while True:
        if force:
            kill(paths, container)
        if locks.try_lock(directory):
            return
        if not force or time.monotonic() > give_up:
            raise Conflict(
                f"cannot remove container {shown}: another process is at work on it",
                hint="" if force else f"rootless rm -f {shown}",
            )
        time.sleep(0.005)


def kill(paths: Paths, container: Container) -> None:
    """SIGKILL the container's first process, and the kernel with it all others; wait for its end.

    Raises RootlessError when it does not end, as a process in an uninterruptible sleep does not.
    """
    now = state.load(paths.state_directory(container.id))
    if now is None:
        return
    try:
        descriptor = state.open_process(now)
    except NotFound:
        return
    try:
        process.pidfd_send_signal(descriptor, signal.SIGKILL)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        if not poller.poll(_KILL_SECONDS * 1000):
            raise RootlessError(
                f"cannot kill container {container.name}: process {container.pid} does not end",
                hint=f"see what it waits for: cat /proc/{container.pid}/stack",
            )
    except ProcessLookupError:
        pass  # it ended meanwhile
    finally:
        os.close(descriptor)


# -- reading ---------------------------------------------------------------------------------------


def _ids(paths: Paths) -> builtins.list[str]:
    try:
        return os.listdir(paths.containers)
    except FileNotFoundError:
        return []


def _id_of_name(paths: Paths, name: str) -> str | None:
    if not name or "/" in name or name in (".", ".."):
        return None
    try:
        found = os.readlink(paths.name(name))
    except OSError:
        return None
    return found if os.path.exists(paths.container_record(found)) else None


def _load(paths: Paths, container_id: str) -> Container | None:
    try:
        record = document.load(paths.container_record(container_id))
        return _from_record(record, state.load(paths.state_directory(container_id)))
    except FileNotFoundError:
        return None  # being made, or being removed
    except (Invalid, KeyError, TypeError, ValueError, AttributeError, OSError) as problem:
        log.warning("container.unreadable", id=container_id, problem=str(problem))
        return None


def _from_record(record: dict[str, Any], now: dict[str, Any] | None) -> Container:
    runs = now is not None and state.status(now) == "running"
    exit_code = record.get("exit_code")
    has_started = record.get("started") is not None or exit_code is not None
    status = "running" if runs else "exited" if has_started else "created"
    if status == "exited" and exit_code is None:
        exit_code = _UNKNOWN_END
    return Container(
        id=record["id"],
        name=record.get("name") or "",
        created=record["created"],
        image=record.get("image") or "",
        image_id=record.get("image_id") or "",
        command=tuple(record.get("command") or ()),
        labels=record.get("labels") or {},
        status=status,
        pid=now["pid"] if runs and now else 0,
        exit_code=(exit_code or 0) if not runs else 0,
        started=record.get("started"),
        finished=record.get("finished") if not runs else None,
        record=record,
    )


# -- measuring -------------------------------------------------------------------------------------


def sizes(paths: Paths, container: Container) -> tuple[int, int]:
    """(bytes a container added or changed, the same with its image)."""
    own = writable_size(paths, container)
    image = records.find(paths, container.image_id) if container.image_id else None
    return own, own + (image or {}).get("size", 0)


def writable_size(paths: Paths, container: Container) -> int:
    """Bytes in the files a container added or changed; with the copy driver, in all its files."""
    copied = container.record.get("driver") == "copy"
    upper = paths.container(container.id) + ("/rootfs" if copied else "/upper")

    def measure() -> bytes:
        total = 0
        for directory, _, files in os.walk(upper):
            for name in files:
                try:
                    total += os.lstat(f"{directory}/{name}").st_size
                except FileNotFoundError:
                    pass  # the container is at work
        return str(total).encode()

    return int(userns.call(idmap.default(), measure, isolated=False))
