# SPDX-License-Identifier: Apache-2.0
"""syncfs(2): one file system to its disk."""

from __future__ import annotations

from rootless.linux import libc

_syncfs = libc.declare("syncfs", libc.Int)


def syncfs(fd: int) -> None:
    """Write out everything of the file system that `fd` lies on; raises OSError (EIO) for losses."""
    libc.check(_syncfs(fd), "syncfs")
