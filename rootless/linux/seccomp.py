# SPDX-License-Identifier: Apache-2.0
"""seccomp(2): installs a filter of system calls that others compiled. Imports nothing later."""

from __future__ import annotations

import errno
import os
import sys

from rootless.linux import abi, libc

FILTER_FLAG_TSYNC = 0x01
FILTER_FLAG_LOG = 0x02
FILTER_FLAG_SPEC_ALLOW = 0x04
FILTER_FLAG_NEW_LISTENER = 0x08
FILTER_FLAG_TSYNC_ESRCH = 0x10
FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20

RET_KILL_PROCESS = 0x80000000
RET_KILL_THREAD = 0x00000000
RET_TRAP = 0x00030000
RET_ERRNO = 0x00050000  # plus the error number
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000  # plus a number for the tracer
RET_LOG = 0x7FFC0000
RET_ALLOW = 0x7FFF0000

INSTRUCTION_SIZE = 8  # struct sock_filter
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_SET_MODE_FILTER = 1

_REASONS = {
    errno.ENOSYS: "this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)",
    errno.EINVAL: "the kernel does not accept this filter or one of its flags",
    errno.EACCES: "neither no_new_privs nor CAP_SYS_ADMIN",
    errno.EBUSY: "another filter of this process has a listener already",
    errno.ENOMEM: "too many filters, one inside the other",
}


def load(program: bytes, flags: int = 0) -> int:
    """Filter the calling thread's system calls from now on, across exec, for good.

    `program` is an array of struct sock_filter. Returns the listener, which is close-on-exec, with
    FILTER_FLAG_NEW_LISTENER, and 0 without. Needs no_new_privs or CAP_SYS_ADMIN in the caller's
    user namespace; raises OSError with the reason in words. See seccomp(2).
    """
    if not program or len(program) % INSTRUCTION_SIZE:
        raise OSError(errno.EINVAL, "seccomp: not a whole number of instructions")
    call = libc.declare_syscall(abi.number("seccomp"), libc.Long, libc.Long, libc.Bytes)
    code = libc.buffer(program)
    # struct sock_fprog: a short, then a pointer where pointers are aligned.
    count = (len(program) // INSTRUCTION_SIZE).to_bytes(2, sys.byteorder)
    address = libc.address_of(code).to_bytes(libc.POINTER_SIZE, sys.byteorder)
    described = count.ljust(libc.POINTER_SIZE, b"\0") + address
    try:
        result = libc.check(call(_SET_MODE_FILTER, flags, described), "seccomp")
    except OSError as problem:
        number = problem.errno or 0
        text = _REASONS.get(number, os.strerror(number))
        raise OSError(number, f"seccomp: {text}") from None
    if result and not flags & FILTER_FLAG_NEW_LISTENER:  # TSYNC tells of a thread in its way
        raise OSError(errno.ESRCH, f"seccomp: thread {result} has a filter of its own")
    return result
