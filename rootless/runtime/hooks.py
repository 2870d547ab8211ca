# SPDX-License-Identifier: Apache-2.0
"""Hooks of config.json (config.md, "POSIX-platform Hooks"): programs run at fixed moments.

They get the container's state on standard input and nothing of the container's environment:
an image's LD_PRELOAD must not reach a program of the host (CVE-2025-23266). Runs between fork and
exec too; imports nothing later.
"""

from __future__ import annotations

import _signal
import errno
import os
import select
import time

from rootless.linux import prctl, process
from rootless.oci import document
from rootless.runtime import channel as words
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MOMENTS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(hooks: Sequence[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run hooks one after the other, each with `state` on its standard input.

    Raises OSError for the first that cannot be run, fails, or exceeds its timeout (and is killed).
    """
    told = document.dumps(state)
    for hook in hooks:
        _run_one(hook, told)


def run_all(hooks: Sequence[dict[str, Any]], state: dict[str, Any]) -> list[OSError]:
    """The same, but what goes wrong keeps no other hook from running; returns the failures."""
    told = document.dumps(state)
    failures = []
    for hook in hooks:
        try:
            _run_one(hook, told)
        except OSError as problem:
            failures.append(problem)
    return failures


def _run_one(hook: dict[str, Any], told: bytes) -> None:
    path = hook["path"]
    environment = dict(entry.split("=", 1) for entry in hook.get("env", ()))
    environment.setdefault("PATH", _PATH)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            path,
            hook.get("args") or [path],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
            setsigdef=(_signal.SIGPIPE, _signal.SIGXFSZ),
        )
    except OSError as problem:
        os.close(writing)
        raise OSError(problem.errno, f"cannot run hook: {problem.strerror}", path) from None
    finally:
        os.close(reading)
    status = _attend(pid, writing, told, hook.get("timeout", 0))
    if status is None:
        raise OSError(errno.ETIMEDOUT, f"hook exceeded its timeout of {hook['timeout']} s", path)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise OSError(errno.ECANCELED, f"hook failed with status {code}", path)


def _attend(pid: int, writing: int, told: bytes, timeout: int) -> int | None:
    """Tell a hook, close the pipe, and wait: the wait status, or None for one that had to be killed."""
    end = time.monotonic() + timeout if timeout else None
    pidfd = process.pidfd_open(pid)
    try:
        _tell(writing, told, pidfd, end)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_left(end)):
            os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
    finally:
        os.close(pidfd)
    return os.waitpid(pid, 0)[1]


def _tell(writing: int, told: bytes, pidfd: int, end: float | None) -> None:
    """Write all of it, unless the hook ends or runs out of time: a state can be more than a pipe holds."""
    os.set_blocking(writing, False)
    poll = select.poll()
    poll.register(writing, select.POLLOUT)
    poll.register(pidfd, select.POLLIN)
    try:
        while told and (ready := poll.poll(_left(end))) and ready[0][0] == writing:
            told = told[os.write(writing, told) :]
    except BrokenPipeError:
        pass  # it does not want to know
    finally:
        os.close(writing)


def _left(end: float | None) -> float | None:
    """Milliseconds until then."""
    return None if end is None else max(0.0, end - time.monotonic()) * 1000


class HostHooks(Step):
    """Let the parent run prestart and createRuntime hooks in its own namespaces."""

    __slots__ = ("joined",)
    name = "hooks on the host's side"

    def __init__(self, *, joined: bool) -> None:
        super().__init__("asked for by the configuration")
        self.joined = joined  # whether namespaces of others were entered

    def describe(self) -> str:
        return "prestart, createRuntime"

    def execute(self, stage: Stage) -> None:
        assert stage.channel is not None
        # They enter our namespaces through /proc: a network is made so. Nothing of the container is
        # there yet that could look at us, unless we joined somebody's.
        prctl.set_dumpable(not self.joined)
        stage.channel.send(words.HOOKS)
        kind, _ = stage.channel.receive()
        if kind != words.GO:
            os._exit(1)  # one of them failed; the parent says which
        prctl.set_dumpable(False)


class ContainerHooks(Step):
    """Hooks run in the container's namespaces: createContainer before the pivot, startContainer last."""

    __slots__ = ("hooks", "moment", "state")
    name = "hooks in the container"

    def __init__(self, moment: str, hooks: Sequence[dict[str, Any]], state: dict[str, Any]) -> None:
        super().__init__("asked for by the configuration")
        self.moment = moment
        self.hooks = hooks
        self.state = state  # all but the pid, which only the parent knows

    def describe(self) -> str:
        return f"{self.moment}: " + " ".join(hook["path"] for hook in self.hooks)

    def execute(self, stage: Stage) -> None:
        run(self.hooks, {**self.state, "pid": stage.pid})
