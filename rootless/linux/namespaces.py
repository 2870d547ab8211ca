# SPDX-License-Identifier: Apache-2.0
"""namespaces(7): unshare(2) and setns(2). Runs between fork and exec; imports nothing later."""

from __future__ import annotations

import os

from rootless.linux import libc

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The runtime specification's names (config-linux.md, "Namespaces"), flags, and names below /proc/PID/ns.
BY_NAME = {
    "user": (CLONE_NEWUSER, "user"),
    "mount": (CLONE_NEWNS, "mnt"),
    "pid": (CLONE_NEWPID, "pid"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}

_setns = libc.declare("setns", libc.Int, libc.Int)


def setns(fd: int, nstype: int = 0) -> None:
    """Enter the namespace behind `fd`; see setns(2)."""
    libc.check(_setns(fd, nstype), "setns")


if hasattr(os, "unshare"):  # Python 3.12
    unshare = os.unshare
else:
    try:
        from unshare import unshare as _unshare
    except ImportError:  # a checkout run without its dependencies
        _libc_unshare = libc.declare("unshare", libc.Int)

        def _unshare(flags: int) -> None:
            libc.check(_libc_unshare(flags), "unshare")

    def unshare(flags: int) -> None:
        """Leave the namespaces named by `flags` for new ones; see unshare(2)."""
        try:
            _unshare(flags)
        except RuntimeError as problem:  # how the binding says errno and text
            raise OSError(*problem.args) from None
