# SPDX-License-Identifier: Apache-2.0
"""The forked child's life, from fork to exec. Runs between fork and exec; imports nothing later.

Two processes, because a pid namespace begins with its maker's next child: the first enters the
namespaces and lends its pid for the id maps, the second is the container's process 1, prepares
everything and executes the command. What needs no ids is done while newuidmap(1) still writes them.
Every failure travels to the parent as step, errno, text and path.
"""

from __future__ import annotations

import _signal
import os
import select

from rootless.errors import Interrupted
from rootless.linux import host, namespaces, prctl
from rootless.runtime import channel as words
from rootless.runtime.rootfs import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from rootless.runtime.channel import Channel
    from rootless.runtime.recipe import Recipe
    from rootless.runtime.rootfs import Step


class Progress:
    """Where we are, for the report of a failure."""

    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = "namespaces"


def run(recipe: Recipe, channel: Channel) -> NoReturn:
    """Live the child's life; leaves by execve or _exit and never returns into the parent's code."""
    progress = Progress()
    try:
        server = _enter(recipe, channel, progress)
        progress.step = "fork"
        pid = os.fork()
        if pid:
            channel.send(words.PROCESS, pid, server)
            while True:
                _signal.pause()  # the parent ends us when the ids are mapped
        _become_command(recipe, channel, progress)
    except OSError as problem:
        path = problem.filename if problem.filename is not None else ""
        channel.send(words.FAILED, progress.step, problem.errno, problem.strerror, path)
    except (KeyboardInterrupt, Interrupted) as problem:
        # The parent forwards from before our exec on: what is not yet the command's ends the launch.
        number = problem.exit_code - 128 if isinstance(problem, Interrupted) else _signal.SIGINT
        channel.send(words.INTERRUPTED, int(number))
    except BaseException as problem:
        text = f"{type(problem).__name__}: {problem}"
        channel.send(words.FAILED, progress.step, 0, text, "")
    finally:
        os._exit(_FAILED.get(progress.step, 1))


# What a container that `create` left waiting ends with when its command then cannot be executed.
_FAILED = {"exec": 126}


def _enter(recipe: Recipe, channel: Channel, progress: Progress) -> int:
    """Enter the namespaces, old ones before new ones; returns the pid of a FUSE server, or 0."""
    prctl.set_pdeathsig(_signal.SIGKILL)
    for fd in recipe.private:
        os.close(fd)
    if recipe.entered:
        prctl.set_dumpable(False)  # those who are there already must not look into us
    for fd, kinds in recipe.entered:
        namespaces.setns(fd, kinds)
    if recipe.unshare & namespaces.CLONE_NEWUSER:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        channel.send(words.UNSHARED)
    server = 0
    if recipe.needs_ids_early:
        _await_go(channel)
        _become_root(recipe, progress)
    if recipe.server is not None:
        progress.step = "file system server"
        namespaces.unshare(namespaces.CLONE_NEWNS)
        server = recipe.server.start()
    progress.step = "namespaces"
    if others := recipe.unshare & ~namespaces.CLONE_NEWUSER:
        namespaces.unshare(others)
    if recipe.clock_offsets:
        progress.step = "time namespace"
        _write_clock_offsets(recipe.clock_offsets)
    return server


def _write_clock_offsets(offsets: bytes) -> None:
    """Only until the first process is in the time namespace; see time_namespaces(7)."""
    fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, offsets)
    finally:
        os.close(fd)


def _await_go(channel: Channel) -> int:
    """Wait for the parent; returns our pid as the parent sees it, where it says so."""
    kind, fields = channel.receive()
    if kind != words.GO:
        os._exit(1)  # the parent is gone, or knows what is wrong
    return int(fields[0]) if fields else 0


def _become_root(recipe: Recipe, progress: Progress) -> None:
    if recipe.changes_user_namespace and recipe.id_map.to_host_uid(0) is not None:
        progress.step = "become root of the user namespace"
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def _become_command(recipe: Recipe, channel: Channel, progress: Progress) -> None:
    pid = _await_go(channel)
    prctl.set_dumpable(False)  # from here on processes of the container may see us
    _become_root(recipe, progress)
    if recipe.unshare & namespaces.CLONE_NEWNET:
        progress.step = "loopback"
        host.bring_up_loopback()
    os.umask(0o022)
    os.setsid()  # no controlling terminal: nothing can be typed into the caller's (CVE-2017-5226)
    _connect_streams(recipe.streams)
    stage = Stage(channel, pid)
    _execute(recipe.steps, stage, progress)
    identity, command = recipe.identity, recipe.command
    progress.step = "user"
    user = identity.resolve()
    command.environment.setdefault("HOME", user.home)
    progress.step = "working directory"
    command.enter_directory()
    os.umask(recipe.umask)
    progress.step = "identity"
    for stream in recipe.owned_streams:
        os.fchown(stream, user.uid, user.gid)
    _execute(recipe.privileged_steps, stage, progress)
    progress.step = "identity"
    identity.assume(user)
    if recipe.dies_with_parent:
        _die_with_parent(channel)
    progress.step = "command"
    path = command.find()
    channel.send(words.CREATED)
    if recipe.gate >= 0:
        progress.step = "gate"
        # The fifo is open for writing too, so this waits until somebody writes; see fifo(7).
        os.read(recipe.gate, 1)
    command.seal(recipe.kept)
    _execute(recipe.final_steps, stage, progress)
    progress.step = "exec"
    command.execute(path)


def _execute(steps: Sequence[Step], stage: Stage, progress: Progress) -> None:
    for step in steps:
        progress.step = step.name
        step.execute(stage)


def _connect_streams(streams: tuple[int, int, int]) -> None:
    for number, fd in enumerate(streams):
        if fd != number:
            os.dup2(fd, number)


def _die_with_parent(channel: Channel) -> None:
    """Ask for SIGKILL when the parent goes, and go now if it is gone already."""
    prctl.set_pdeathsig(_signal.SIGKILL)
    poll = select.poll()
    poll.register(channel.writing, 0)
    if poll.poll(0):  # POLLERR: nobody reads any more
        os._exit(1)
