# SPDX-License-Identifier: Apache-2.0
"""sched_setattr(2), ioprio_set(2) and personality(2). Runs between fork and exec; imports nothing later."""

from __future__ import annotations

from rootless.linux import abi, libc

# sched(7), linux/sched.h
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4,
    "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}  # fmt: skip
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20, "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
# linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
# linux/personality.h
PER_LINUX, PER_LINUX32 = 0x0000, 0x0008

_CLASS_SHIFT = 13
_WHO_PROCESS = 1
_personality = libc.declare("personality", libc.UnsignedLong)


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, deadline: tuple[int, int, int]
) -> None:
    """Set how the calling thread is scheduled; `deadline` is (runtime, deadline, period) in ns.

    Raises OSError: EPERM for a priority the caller may not have.
    """
    # struct sched_attr as of Linux 3.14: size, policy, flags, nice, priority, three times.
    size = 48
    attributes = (
        libc.u32(size, policy)
        + libc.u64(flags)
        + libc.u32(nice & 0xFFFFFFFF, priority)
        + libc.u64(*deadline)
    )
    call = libc.declare_syscall(abi.number("sched_setattr"), libc.Int, libc.Bytes, libc.Long)
    libc.check(call(0, attributes, 0), "sched_setattr")


def ioprio_set(io_class: int, priority: int) -> None:
    """Set the calling thread's priority at the disks."""
    call = libc.declare_syscall(abi.number("ioprio_set"), libc.Int, libc.Int, libc.Long)
    libc.check(call(_WHO_PROCESS, 0, io_class << _CLASS_SHIFT | priority), "ioprio_set")


def personality(persona: int) -> None:
    """Set the execution domain of the process, PER_*."""
    libc.check(_personality(persona), "personality")
