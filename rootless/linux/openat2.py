# SPDX-License-Identifier: Apache-2.0
"""openat2(2): opening inside a directory that nothing can lead out of.

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_SYS_openat2 = 437
_openat2 = libc.declare_syscall(_SYS_openat2, libc.Int, libc.Bytes, libc.Bytes, libc.UnsignedLong)


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """A descriptor (always close-on-exec) for `path` below `dirfd`, resolved as `resolve` allows.

    Raises OSError as open(2) does; EXDEV where RESOLVE_BENEATH or RESOLVE_NO_XDEV was violated.
    """
    how = libc.u64(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    while True:
        try:
            return libc.check(_openat2(dirfd, name, how, len(how)), "openat2", path)
        except OSError as problem:
            # EAGAIN: a rename somewhere raced with "..": the kernel asks to try again (openat2(2)).
            if problem.errno not in (errno.EAGAIN, errno.EINTR):
                raise


def in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as a process chrooted into `root` would, without following magic links."""
    return openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
