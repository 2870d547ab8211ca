# SPDX-License-Identifier: Apache-2.0
"""capabilities(7): names, numbers and capset(2). Runs between fork and exec; imports nothing later."""

from __future__ import annotations

import os

from rootless.linux import libc

# Linux's numbering, include/uapi/linux/capability.h.
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
    "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_capset = libc.declare("capset", libc.Bytes, libc.Bytes)


def mask(names: list[str] | tuple[str, ...]) -> int:
    """The set as bits; KeyError for a name Linux does not have."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def last() -> int:
    """The highest capability this kernel knows: /proc/sys/kernel/cap_last_cap."""
    fd = os.open("/proc/sys/kernel/cap_last_cap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on the calling thread, sets as bits."""
    low, high = 0xFFFFFFFF, 32
    header = libc.u32(_VERSION_3, 0)
    data = libc.u32(
        effective & low, permitted & low, inheritable & low,
        effective >> high, permitted >> high, inheritable >> high,
    )  # fmt: skip
    libc.check(_capset(header, data), "capset")
