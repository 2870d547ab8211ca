# SPDX-License-Identifier: Apache-2.0
"""Settings of the kernel for one container, as steps: linux.sysctl, process.oomScoreAdj, linux.intelRdt.

Runs between fork and exec, before the pivot; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.runtime import procfs
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.oci.runtime_types import Clock, IntelRdt

_RESCTRL = "/sys/fs/resctrl"


class Settings(Step):
    """sysctl(8) in the container's own namespaces: paths below /proc/sys, and values."""

    __slots__ = ("settings",)
    name = "sysctl"

    def __init__(self, settings: dict[str, str], reason: str = "") -> None:
        super().__init__(reason)
        self.settings = settings

    def describe(self) -> str:
        return " ".join(f"{path}={value}" for path, value in self.settings.items())

    def execute(self, stage: Stage) -> None:
        proc = procfs.Proc()
        for path, value in self.settings.items():
            proc.write("sys/" + path, value)
        proc.close()


class OutOfMemoryScore(Step):
    """How likely the process is to be killed when memory runs out; see proc_pid_oom_score_adj(5)."""

    __slots__ = ("alone", "score")
    name = "oom score"

    def __init__(self, score: int, reason: str = "", *, alone: bool) -> None:
        super().__init__(reason)
        self.score = score
        self.alone = alone  # neither the pid nor the user namespace is somebody else's

    def describe(self) -> str:
        return f"oom_score_adj {self.score}"

    def execute(self, stage: Stage) -> None:
        try:
            procfs.write_own("oom_score_adj", str(self.score), alone=self.alone)
        except PermissionError:
            text = "may not be lowered below your own score without root"
            if not self.alone:
                text = "cannot be set in a pid or user namespace that was joined"
            raise OSError(errno.EACCES, text, str(self.score)) from None


class ResourceGroup(Step):
    """linux.intelRdt: a group of resctrl(7) that the administrator has made and given away."""

    __slots__ = ("asked",)
    name = "intelRdt"

    def __init__(self, asked: IntelRdt, reason: str = "") -> None:
        super().__init__(reason)
        self.asked = asked

    def describe(self) -> str:
        return f"resctrl group {self.asked.get('closID') or '(new)'}"

    def execute(self, stage: Stage) -> None:
        if not os.path.exists(_RESCTRL + "/schemata"):
            raise OSError(errno.EOPNOTSUPP, "this machine has no resctrl file system", _RESCTRL)
        group = self.asked.get("closID", "")
        path = f"{_RESCTRL}/{group}"
        if not group or not os.path.isdir(path):
            text = (
                "the group must exist: only root can make one, and linux.intelRdt.closID names it"
            )
            raise OSError(errno.EOPNOTSUPP, text, group)
        for key in ("l3CacheSchema", "memBwSchema"):
            if schema := self.asked.get(key):
                _write(path + "/schemata", f"{schema}\n")
        _write(path + "/tasks", str(stage.pid))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def clock_offsets(offsets: dict[str, Clock]) -> bytes:
    """linux.timeOffsets as lines for /proc/PID/timens_offsets; see time_namespaces(7)."""
    lines = [
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in offsets.items()
    ]
    return "".join(lines).encode()
