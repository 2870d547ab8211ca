# SPDX-License-Identifier: Apache-2.0
"""Running a function in a child that has walls around it, and asking the kernel by number."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

from rootless.linux import abi, prctl, seccomp
from rootless.runtime import libseccomp, seccomp_prelude
from rootless.runtime.seccomp_cache import Program

_libc = ctypes.CDLL(None, use_errno=True)


def behind(program: Program, function: Callable[[], Any]) -> Any:
    """What `function` returns (as JSON can say it) in a child with no_new_privs and the filter."""

    def confine() -> None:
        seccomp.load(program, program.flags)

    return in_child(confine, function)


def in_child(confine: Callable[[], object], function: Callable[[], Any]) -> Any:
    """What `function` returns in a child with no_new_privs, after `confine`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            prctl.set_no_new_privs()
            confine()
            os.write(writing, json.dumps(function()).encode())
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with {status}"
    return json.loads(text)


def number(name: str) -> int:
    """The number of a system call on this machine."""
    found = libseccomp.resolve(name)
    if found is None:
        found = seccomp_prelude.number(name, abi.SECCOMP_NAME)
    assert found is not None, name
    return found


def refusal(call: str | int, *arguments: int | bytes | None) -> str:
    """The name of the error a system call fails with, or "" when it succeeds."""
    wanted = number(call) if isinstance(call, str) else call
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    ctypes.set_errno(0)
    if _libc.syscall(ctypes.c_long(wanted), *values) >= 0:
        return ""
    return errno.errorcode[ctypes.get_errno()]


def outcome(function: Callable[[], Any]) -> str:
    """The name of the error a function fails with, or "" when it succeeds."""
    try:
        function()
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]
    return ""
