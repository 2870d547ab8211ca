# SPDX-License-Identifier: Apache-2.0
"""mount(2) and the descriptor-based mount calls of Linux 5.2 to 5.12, without policy.

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import os

from rootless.linux import libc

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 0x2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_mount = libc.declare("mount", libc.Bytes, libc.Bytes, libc.Bytes, libc.UnsignedLong, libc.Bytes)
_umount2 = libc.declare("umount2", libc.Bytes, libc.Int)
_pivot_root = libc.declare("pivot_root", libc.Bytes, libc.Bytes)
_open_tree = libc.declare_syscall(428, libc.Int, libc.Bytes, libc.Long)
_move_mount = libc.declare_syscall(429, libc.Int, libc.Bytes, libc.Int, libc.Bytes, libc.Long)
_fsopen = libc.declare_syscall(430, libc.Bytes, libc.Long)
_fsconfig = libc.declare_syscall(431, libc.Int, libc.Long, libc.Bytes, libc.Bytes, libc.Int)
_fsmount = libc.declare_syscall(432, libc.Int, libc.Long, libc.Long)
_mount_setattr = libc.declare_syscall(
    442, libc.Int, libc.Bytes, libc.Long, libc.Bytes, libc.UnsignedLong
)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None
) -> None:
    """mount(2)."""
    result = _mount(_encoded(source), os.fsencode(target), _encoded(fstype), flags, _encoded(data))
    libc.check(result, "mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    libc.check(_umount2(os.fsencode(target), flags), "umount", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    libc.check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE, a detached bind mount of what is there."""
    result = _open_tree(dirfd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC)
    return libc.check(result, "open_tree", path or f"descriptor {dirfd}")


def move_mount(from_fd: int, to_fd: int) -> None:
    """move_mount(2) from one descriptor onto another: no path is resolved a second time."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    libc.check(_move_mount(from_fd, b"", to_fd, b"", flags), "move_mount")


def fsopen(fstype: str) -> int:
    """fsopen(2): a configuration context for a new file system instance."""
    return libc.check(_fsopen(os.fsencode(fstype), FSOPEN_CLOEXEC), "fsopen", fstype)


def fsconfig_set(fd: int, key: str, value: str | None = None) -> None:
    """fsconfig(2): an option `key=value` (value of at most 255 bytes), or a flag without value."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    libc.check(_fsconfig(fd, command, os.fsencode(key), _encoded(value), 0), "fsconfig", key)


def fsconfig_create(fd: int) -> None:
    """fsconfig(2): make the superblock."""
    libc.check(_fsconfig(fd, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount with MOUNT_ATTR_* `attributes` of what `fd` configured."""
    return libc.check(_fsmount(fd, FSMOUNT_CLOEXEC, attributes), "fsmount")


def mount_setattr(
    fd: int,
    set_: int,
    clear: int = 0,
    *,
    propagation: int = 0,
    recursive: bool = False,
    user_namespace: int = 0,
) -> None:
    """mount_setattr(2) on the mount behind a descriptor.

    `user_namespace` is the descriptor that goes with MOUNT_ATTR_IDMAP.
    """
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    attributes = libc.u64(set_, clear, propagation, user_namespace)
    libc.check(_mount_setattr(fd, b"", flags, attributes, len(attributes)), "mount_setattr")
