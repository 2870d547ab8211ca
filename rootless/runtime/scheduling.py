# SPDX-License-Identifier: Apache-2.0
"""When and where the command is computed, as steps: scheduler, ioPriority, execCPUAffinity, personality.

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import schedule
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.oci.runtime_types import IoPriority
    from rootless.oci.runtime_types import Scheduler as Spelled


class Scheduler(Step):
    """process.scheduler: policy and its parameters; see sched(7)."""

    __slots__ = ("asked",)
    name = "scheduler"

    def __init__(self, asked: Spelled, reason: str = "") -> None:
        super().__init__(reason)
        self.asked = asked

    def describe(self) -> str:
        words = [self.asked["policy"]]
        for key in ("nice", "priority", "runtime", "deadline", "period"):
            if value := self.asked.get(key):
                words.append(f"{key} {value}")
        return ", ".join([*words, *self.asked.get("flags", ())])

    def execute(self, stage: Stage) -> None:
        asked = self.asked
        flags = 0
        for flag in asked.get("flags", ()):
            flags |= schedule.FLAGS[flag]
        times = asked.get("runtime", 0), asked.get("deadline", 0), asked.get("period", 0)
        policy = schedule.POLICIES[asked["policy"]]
        try:
            schedule.sched_setattr(
                policy, flags, asked.get("nice", 0), asked.get("priority", 0), times
            )
        except PermissionError:
            text = "needs a right that only root can give, such as a limit rtprio or nice"
            raise OSError(errno.EPERM, text, self.describe()) from None


class DiskPriority(Step):
    """process.ioPriority; see ioprio_set(2)."""

    __slots__ = ("asked",)
    name = "io priority"

    def __init__(self, asked: IoPriority, reason: str = "") -> None:
        super().__init__(reason)
        self.asked = asked

    def describe(self) -> str:
        return f"{self.asked['class']} {self.asked.get('priority', 0)}"

    def execute(self, stage: Stage) -> None:
        io_class = schedule.IO_CLASSES[self.asked["class"]]
        schedule.ioprio_set(io_class, self.asked.get("priority", 0))


class Affinity(Step):
    """On which processors the process may run; see sched_setaffinity(2)."""

    __slots__ = ("processors",)
    name = "processors"

    def __init__(self, processors: Sequence[int], reason: str = "") -> None:
        super().__init__(reason)
        self.processors = processors

    def describe(self) -> str:
        return "processors " + ",".join(map(str, self.processors))

    def execute(self, stage: Stage) -> None:
        try:
            os.sched_setaffinity(0, self.processors)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                raise
            text = "none of these processors may be used"
            raise OSError(errno.EINVAL, text, self.describe()) from None


def processors(text: str) -> list[int]:
    """The processors of a list such as 0-3,7 (which has been validated)."""
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        if part:
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
    return found


class Personality(Step):
    """linux.personality: what uname(2) claims the machine to be; see personality(2)."""

    __slots__ = ("domain",)
    name = "personality"

    def __init__(self, domain: str, reason: str = "") -> None:
        super().__init__(reason)
        self.domain = domain

    def describe(self) -> str:
        return self.domain

    def execute(self, stage: Stage) -> None:
        is_32 = self.domain == "LINUX32"
        schedule.personality(schedule.PER_LINUX32 if is_32 else schedule.PER_LINUX)
