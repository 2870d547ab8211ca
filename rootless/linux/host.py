# SPDX-License-Identifier: Apache-2.0
"""sethostname(2), setdomainname(2), statfs(2)'s file system type, and the loopback interface.

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import fcntl
import os
import sys

from rootless.linux import libc

PROC_SUPER_MAGIC = 0x9FA0
CGROUP2_SUPER_MAGIC = 0x63677270

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_AF_INET, _SOCK_DGRAM, _SOCK_CLOEXEC = 2, 2, 0o2000000

_sethostname = libc.declare("sethostname", libc.Bytes, libc.UnsignedLong)
_setdomainname = libc.declare("setdomainname", libc.Bytes, libc.UnsignedLong)
_fstatfs = libc.declare("fstatfs", libc.Int, libc.Pointer)
_socket = libc.declare("socket", libc.Int, libc.Int, libc.Int)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    libc.check(_sethostname(encoded, len(encoded)), "sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    encoded = os.fsencode(name)
    libc.check(_setdomainname(encoded, len(encoded)), "setdomainname", name)


def file_system_type(fd: int) -> int:
    """The magic number of the file system behind a descriptor: f_type of statfs(2)."""
    buffer = libc.Buffer()
    libc.check(_fstatfs(fd, libc.address_of(buffer)), "fstatfs")
    return int.from_bytes(buffer[:4], sys.byteorder)


def bring_up_loopback() -> None:
    """Set the interface `lo` of the current network namespace up; see netdevice(7)."""
    fd = libc.check(_socket(_AF_INET, _SOCK_DGRAM | _SOCK_CLOEXEC, 0), "socket")
    try:
        request = bytearray(b"lo".ljust(40, b"\0"))  # struct ifreq: name[16], then a union
        fcntl.ioctl(fd, _SIOCGIFFLAGS, request)
        flags = int.from_bytes(request[16:18], sys.byteorder) | _IFF_UP
        request[16:18] = flags.to_bytes(2, sys.byteorder)
        fcntl.ioctl(fd, _SIOCSIFFLAGS, request)
    finally:
        os.close(fd)
