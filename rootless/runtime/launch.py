# SPDX-License-Identifier: Apache-2.0
"""The launching parent: forks the child, maps its ids, and hears from it until the command runs."""

from __future__ import annotations

import _signal
import errno
import os

from rootless.errors import (
    CommandNotExecutable,
    CommandNotFound,
    HostUnable,
    Interrupted,
    LaunchFailed,
)
from rootless.linux import prctl, process
from rootless.linux.namespaces import CLONE_NEWUSER
from rootless.runtime import channel as words
from rootless.runtime import idmap, init, signals
from rootless.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.runtime.recipe import Recipe


class Process:
    """The container's process 1, a child of ours, and the server of its file system if there is one."""

    __slots__ = ("pid", "pidfd", "server")

    def __init__(self, pid: int, server: int) -> None:
        self.pid = pid
        self.server = server
        self.pidfd = process.pidfd_open(pid)

    def send_signal(self, number: int) -> None:
        """Send a signal; a process that has ended is no error, also when it was waited for."""
        if self.pidfd < 0:
            return
        try:
            process.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def wait(self) -> int:
        """Wait for the end; returns the exit code, 128 + n for signal n."""
        status = os.waitpid(self.pid, 0)[1]
        self.close()
        if os.WIFSIGNALED(status):
            return 128 + os.WTERMSIG(status)
        return os.WEXITSTATUS(status)

    def close(self) -> None:
        """Let go of the descriptor, and end the file system's server: nobody uses it now."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.server:
            _end(self.server)
            self.server = 0


def start(
    recipe: Recipe,
    *,
    prepare: Callable[[], None] | None = None,
    created: Callable[[Process], None] | None = None,
) -> Process:
    """Run the recipe; returns when the command has been executed.

    `prepare` is called while the ids are mapped: whatever the launch needs on disk. `created` gets
    the Process before it is let go. Raises LaunchFailed (CommandNotFound, CommandNotExecutable),
    HostUnable or Interrupted, and what the two raise; nothing of the container runs then.
    """
    # The first child leaves early and its child, the container, becomes ours.
    prctl.set_child_subreaper(True)
    ours, theirs = Channel.pair()
    first = os.fork()
    if first == 0:
        ours.close()
        init.run(recipe, theirs)
    theirs.close()
    container: Process | None = None
    try:
        _map_ids(ours, first, recipe, prepare)
        pid, server = _expect(ours, words.PROCESS, recipe)
        container = Process(int(pid), int(server))
        _end(first)
        first = 0
        if recipe.forwards_signals:
            signals.forward(container)  # before the command can run: none may be lost
        if created is not None:
            created(container)
        ours.send(words.GO, pid)
        if recipe.hooks is not None:
            _expect(ours, words.HOOKS, recipe)
            recipe.hooks(container.pid)
            ours.send(words.GO)
        if recipe.listener is not None:
            recipe.listener(container.pid)
        _expect(ours, words.CREATED, recipe)
        if recipe.gate < 0:
            _expect(ours, words.END, recipe)
    except BaseException:
        if first:
            _end(first)
        if container is None:
            _see_off(ours)
        else:
            _end(container.pid)
            container.close()
        raise
    finally:
        ours.close()
    return container


def _see_off(ours: Channel) -> None:
    """After the first child's end: if it has left us a second one, that one goes when we hang up."""
    ours.hang_up()
    kind, fields = ours.receive()
    while kind != words.END:
        if kind == words.PROCESS:
            pid, server = map(int, fields)
            os.waitpid(pid, 0)
            if server:
                _end(server)
        kind, fields = ours.receive()


def _map_ids(ours: Channel, first: int, recipe: Recipe, prepare: Callable[[], None] | None) -> None:
    """What the parent does for the first child: id maps, its cgroup, and meanwhile `prepare`."""
    ids = None
    if recipe.unshare & CLONE_NEWUSER:
        _expect(ours, words.UNSHARED, recipe)
        ids = idmap.Writing(first, recipe.id_map)
    try:
        if recipe.cgroup is not None:
            recipe.cgroup.add(first)
        if prepare is not None:
            prepare()
        if ids is not None:
            _finish(ids, ours, recipe)
    finally:
        if ids is not None:
            ids.close()
    if recipe.needs_ids_early:
        ours.send(words.GO)  # to the first child, which then makes the second


def _finish(ids: idmap.Writing, ours: Channel, recipe: Recipe) -> None:
    try:
        ids.finish()
    except HostUnable:
        if (
            ours.has_news()
        ):  # the child failed meanwhile: that is why there is nobody to map ids for
            _expect(ours, words.END, recipe)
        raise


def _expect(channel: Channel, wanted: bytes, recipe: Recipe) -> list[str]:
    """The fields of the sentence that must come now; a failure told instead is raised."""
    kind, fields = channel.receive()
    if kind == words.FAILED:
        step, number, text, path = fields
        raise _failure(recipe, step, int(number), text, path)
    if kind == words.INTERRUPTED:
        signal = int(fields[0])
        raise KeyboardInterrupt if signal == _signal.SIGINT else Interrupted(signal)
    if kind != wanted:
        if kind == words.END:
            raise LaunchFailed("cannot start the container: its process died while it was prepared")
        raise LaunchFailed(f"cannot start the container: unexpected message {kind!r}")
    return fields


def _failure(recipe: Recipe, step: str, number: int, text: str, path: str) -> Exception:
    if step in ("command", "exec"):
        return _command_failure(recipe.command.arguments[0], number, text)
    if step == "namespaces" and number in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EACCES):
        return HostUnable(
            f"cannot make namespaces: {text}",
            hint="rootless doctor says what this machine restricts",
        )
    about = f": {path}" if path else ""
    hint = _HINTS.get(step, "")
    return LaunchFailed(f"cannot start the container: {step}{about}: {text}", hint=hint)


_HINTS = {
    "seccomp": "--security-opt seccomp=unconfined does without the filter",
    "user": "name a user of the image, or a uid that is mapped: rootless run --explain shows the map",
    "working directory": "choose a directory of the container with -w",
}


def _command_failure(name: str, number: int, text: str) -> LaunchFailed:
    if number == errno.ENOENT and "PATH" in text:
        return CommandNotFound(f"cannot run `{name}`: {text}")
    if number == errno.ENOENT:
        return CommandNotFound(
            f"cannot run `{name}`: no such file in the container, or its interpreter is missing",
            hint="for a script look at its #! line; for a program built elsewhere, at its C library",
        )
    if number == errno.ENOEXEC:
        return CommandNotExecutable(
            f"cannot run `{name}`: exec format error",
            hint="it is built for another processor, or it is a script without a #! line",
        )
    if number == errno.EISDIR:
        return CommandNotExecutable(f"cannot run `{name}`: is a directory")
    return CommandNotExecutable(f"cannot run `{name}`: {text.lower()}")


def _end(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
