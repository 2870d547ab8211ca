# SPDX-License-Identifier: Apache-2.0
"""landlock(7): a process gives up access to files, TCP ports and signals. Imports nothing later.

The system calls as they are; which rights mean what to a person is in `runtime.landlock`.
"""

from __future__ import annotations

import errno
import sys

from rootless.linux import libc

ACCESS_FS_EXECUTE = 1 << 0
ACCESS_FS_WRITE_FILE = 1 << 1
ACCESS_FS_READ_FILE = 1 << 2
ACCESS_FS_READ_DIR = 1 << 3
ACCESS_FS_REMOVE_DIR = 1 << 4
ACCESS_FS_REMOVE_FILE = 1 << 5
ACCESS_FS_MAKE_CHAR = 1 << 6
ACCESS_FS_MAKE_DIR = 1 << 7
ACCESS_FS_MAKE_REG = 1 << 8
ACCESS_FS_MAKE_SOCK = 1 << 9
ACCESS_FS_MAKE_FIFO = 1 << 10
ACCESS_FS_MAKE_BLOCK = 1 << 11
ACCESS_FS_MAKE_SYM = 1 << 12
ACCESS_FS_REFER = 1 << 13  # since ABI 2: link and rename between directories
ACCESS_FS_TRUNCATE = 1 << 14  # since ABI 3
ACCESS_FS_IOCTL_DEV = 1 << 15  # since ABI 5
ACCESS_NET_BIND_TCP = 1 << 0  # since ABI 4
ACCESS_NET_CONNECT_TCP = 1 << 1  # since ABI 4
SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # since ABI 6
SCOPE_SIGNAL = 1 << 1  # since ABI 6

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_RULE_NET_PORT = 2

_create_ruleset = libc.declare_syscall(444, libc.Bytes, libc.UnsignedLong, libc.Long)
_add_rule = libc.declare_syscall(445, libc.Int, libc.Int, libc.Bytes, libc.Long)
_restrict_self = libc.declare_syscall(446, libc.Int, libc.Long)


def abi_version() -> int:
    """Which Landlock this kernel has; 0 when it has none or it was not enabled at boot."""
    try:
        return libc.check(_create_ruleset(None, 0, _CREATE_RULESET_VERSION), "landlock")
    except OSError as problem:
        if problem.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def create_ruleset(access_fs: int, access_net: int, scoped: int) -> int:
    """A descriptor (close-on-exec) of rules that handle, and so refuse by default, these rights."""
    attributes = libc.u64(access_fs, access_net, scoped)
    # An older kernel accepts the longer structure as long as what it does not know is zero.
    return libc.check(_create_ruleset(attributes, len(attributes), 0), "landlock_create_ruleset")


def add_path(ruleset: int, directory: int, access: int, path: object = None) -> None:
    """Allow `access` beneath the file behind a descriptor (O_PATH will do); `path` is for errors."""
    rule = libc.u64(access) + directory.to_bytes(4, sys.byteorder)  # a packed structure
    result = _add_rule(ruleset, _RULE_PATH_BENEATH, rule, 0)
    libc.check(result, "landlock_add_rule", path)


def add_port(ruleset: int, port: int, access: int) -> None:
    """Allow `access` to one TCP port."""
    result = _add_rule(ruleset, _RULE_NET_PORT, libc.u64(access, port), 0)
    libc.check(result, "landlock_add_rule", port)


def restrict_self(ruleset: int) -> None:
    """Enforce the rules on the calling thread and its children to come; needs no_new_privs."""
    libc.check(_restrict_self(ruleset, 0), "landlock_restrict_self")
