# SPDX-License-Identifier: Apache-2.0
"""How a layer says that something of the layers below is gone, on disk and in an archive.

On disk it is overlayfs's form (Documentation/filesystems/overlayfs.rst, with `userxattr`), which
fuse-overlayfs reads too; in an archive it is the image specification's (layer.md, "Whiteouts").
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import HostUnable

OPAQUE_XATTR = "user.overlay.opaque"
MARK = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
AUFS_MARK = b".wh..wh."


def is_whiteout(status: os.stat_result) -> bool:
    """True for the character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(fd: int) -> bool:
    """True when the open directory hides what lower layers have in it."""
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:  # not set, or the file system has none
        return False


def make_whiteout(name: bytes, directory: int) -> None:
    """Record that `name` is gone; raises FileExistsError when the layer has one of its own."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
    except PermissionError:
        raise HostUnable(
            "cannot record a deletion: mknod of a whiteout is refused",
            hint="Linux 5.8 or newer allows it to everybody; see rootless doctor",
        ) from None


def hide_lower(name: bytes, directory: int) -> None:
    """Make the directory `name` opaque: nothing of lower layers shows in it."""
    fd = os.open(
        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
    )
    try:
        os.setxattr(fd, OPAQUE_XATTR, b"y")
    except OSError as problem:
        if problem.errno == errno.EOPNOTSUPP:
            raise HostUnable(
                "cannot record a deletion: the store's file system has no user extended attributes",
                hint="put the store on ext4, xfs or btrfs: export ROOTLESS_ROOT=/path/to/store",
            ) from None
        raise
    finally:
        os.close(fd)
