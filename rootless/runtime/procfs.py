# SPDX-License-Identifier: Apache-2.0
"""Writing into the real /proc: never through one that somebody could have prepared (CVE-2025-52881).

Runs between fork and exec, before the pivot; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import host, mount, openat2, prctl
from rootless.runtime import rootfs

_ATTRIBUTES = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
_INSIDE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_XDEV | openat2.RESOLVE_NO_MAGICLINKS


class Proc:
    """A proc file system: a new instance where the kernel lets us, else the host's."""

    __slots__ = ("fd", "is_new")

    def __init__(self) -> None:
        self.is_new = True  # and so counts processes as we do
        try:
            self.fd = rootfs.make("proc", (), _ATTRIBUTES)
        except OSError:
            # A pid namespace that is not ours, or a /proc with parts hidden by a container around.
            self.is_new = False
            self.fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _verify(self.fd, "/proc")

    def open(self, path: str, flags: int) -> int:
        """Open a file of it, such as self/oom_score_adj; nothing mounted over it is accepted."""
        try:
            fd = openat2.openat2(self.fd, path, flags, 0, _INSIDE)
        except OSError as problem:
            if problem.errno == errno.EXDEV:
                text = "something is mounted over it"
                raise OSError(errno.EXDEV, text, f"/proc/{path}") from None
            raise OSError(problem.errno, os.strerror(problem.errno or 0), f"/proc/{path}") from None
        _verify(fd, path)
        return fd

    def write(self, path: str, text: str) -> None:
        """Write a file of it in one call."""
        fd = self.open(path, os.O_WRONLY)
        try:
            os.write(fd, os.fsencode(text))
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, f"/proc/{path}") from None
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


def _verify(fd: int, path: str) -> None:
    if host.file_system_type(fd) != host.PROC_SUPER_MAGIC:
        raise OSError(errno.EINVAL, "is not on a proc file system", path)


def write_own(name: str, text: str, *, alone: bool) -> None:
    """Write /proc/self/NAME of the calling process.

    The file belongs to root as long as we are not dumpable. That can be changed for a moment when we
    are `alone`: in namespaces in which no process of a container is yet (CVE-2016-9962).
    """
    proc = Proc()
    try:
        if alone:
            prctl.set_dumpable(True)
        proc.write(f"self/{name}", text)
    finally:
        prctl.set_dumpable(False)
        proc.close()
