# SPDX-License-Identifier: Apache-2.0
"""Processes and what identifies them: pidfds, start times, the boot. Imports nothing later."""

from __future__ import annotations

import _signal
import errno
import os

from rootless.linux import libc

CLOSE_RANGE_CLOEXEC = 0x4

_close_range = libc.declare_syscall(436, libc.Long, libc.Long, libc.Long)

pidfd_open = os.pidfd_open
pidfd_send_signal = _signal.pidfd_send_signal


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2): close, or with CLOSE_RANGE_CLOEXEC mark, all descriptors from first to last."""
    libc.check(_close_range(first, last, flags), "close_range")


def first_closed(number: int, first: int = 3) -> int:
    """The first of `number` descriptors from `first` on that is not open, -1 when all are."""
    for fd in range(first, first + number):
        try:
            os.fstat(fd)
        except OSError:
            return fd
    return -1


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot: with the boot id it names a process for good.

    Raises ProcessLookupError when there is no such process, or only its remains. Fields 3 and 22 of
    proc_pid_stat(5).
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The name may hold spaces and parentheses; everything after its last one is in fixed places.
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(errno.ESRCH, "it has ended and waits for its parent")
    return int(fields[19])


def boot_id() -> str:
    """The random id of this boot; see random(4)."""
    fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)
