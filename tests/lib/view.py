# SPDX-License-Identifier: Apache-2.0
"""A view of the machine of one's own: no subordinate ids, and mounts that nobody else sees."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from rootless.linux import mount, namespaces


def map_one_id() -> None:
    """Go where the caller has the ids it has and no others, and may mount; the process has no threads."""
    uid, gid = os.getuid(), os.getgid()
    namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    for name in ("/etc/subuid", "/etc/subgid"):
        if os.path.exists(name):
            mount.mount("/dev/null", name, None, mount.MS_BIND)


def mount_disk(directory: Path, size: int) -> None:
    """A file system of `size` bytes at an existing directory; after `map_one_id`."""
    mount.mount("disk", str(directory), "tmpfs", 0, f"size={size},mode=700")


def fill(directory: Path) -> Path:
    """Leave no byte free on the file system of `directory`; returns the file that takes them."""
    ballast = directory / "ballast"
    for piece in (1 << 20, 4096, 1):
        with ballast.open("ab", buffering=0) as file:
            try:
                while file.write(b"\0" * piece):
                    pass
            except OSError:
                continue
    found = os.statvfs(directory)
    assert found.f_bavail == 0, found
    return ballast


def inside(work: Callable[[], None]) -> None:
    """Call `work` in a child process after `map_one_id`; AssertionError with its traceback if it raised."""
    with tempfile.TemporaryFile("w+") as told:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                map_one_id()
                work()
                code = 0
            except BaseException:
                traceback.print_exc(file=told)
                told.flush()
            finally:
                os._exit(code)
        status = os.waitpid(pid, 0)[1]
        told.seek(0)
        assert status == 0, told.read() or f"status {status}"
