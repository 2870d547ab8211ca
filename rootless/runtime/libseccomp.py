# SPDX-License-Identifier: Apache-2.0
"""libseccomp through ctypes: rules go in, a BPF program comes out. Cold; knows no profile.

The functions are those of seccomp.h; seccomp_rule_add(3) and its neighbours document them.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rootless.errors import HostUnable
from rootless.linux import abi

COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

_LIBRARY = "libseccomp.so.2"
_UNKNOWN = -1  # __NR_SCMP_ERROR
_CTL_OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE, since 2.5
_BINARY_TREE = 2
_LATEST_API = (7, 6, 5)


class _Condition(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


# One comparison: index of the argument, a value of COMPARISONS, and the two numbers.
Condition = tuple[int, int, int, int]


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise HostUnable(
            f"cannot compile the filter of system calls: {_LIBRARY} is not installed",
            hint="apt-get install libseccomp2 (dnf, apk: libseccomp), or do without: "
            "--security-opt seccomp=unconfined",
        ) from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.restype = None
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
        ctypes.POINTER(_Condition),
    )  # fmt: skip
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    # The library asks the kernel what it can do, and believes an outer filter's refusals. We only
    # want the program; whether the kernel takes it shows when it is loaded.
    for level in _LATEST_API:
        if library.seccomp_api_set(level) == 0:
            break
    return library


def resolve(name: str) -> int | None:
    """The number of a system call here, or None when the library has not heard of it.

    A negative number is the library's own for a call that only other architectures have.
    """
    number = int(_library().seccomp_syscall_resolve_name(name.encode()))
    return None if number == _UNKNOWN else number


def resolve_on(architecture: int, name: str) -> int | None:
    """The number of a call on an architecture of `resolve_architecture`; None when it has none."""
    number = int(_library().seccomp_syscall_resolve_name_arch(architecture, name.encode()))
    return None if number < 0 else number


def resolve_architecture(name: str) -> int | None:
    """The number (AUDIT_ARCH_*) of SCMP_ARCH_*; None when the library does not know it."""
    short = name.removeprefix("SCMP_ARCH_").lower()
    return int(_library().seccomp_arch_resolve_name(short.encode())) or None


class Filter:
    """Rules on their way to a program; a context manager, for the library's memory."""

    def __init__(self, default_action: int) -> None:
        self._context = _library().seccomp_init(default_action)
        if not self._context:
            raise HostUnable(f"cannot compile the filter of system calls on {abi.MACHINE}")
        # Unknown before 2.5, and then the rules are tried one after the other.
        _library().seccomp_attr_set(self._context, _CTL_OPTIMIZE, _BINARY_TREE)

    def __enter__(self) -> Filter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _library().seccomp_release(self._context)

    def add_architecture(self, number: int) -> None:
        """Filter the calls of this architecture too; the machine's own is there from the start."""
        result = _library().seccomp_arch_add(self._context, number)
        if result not in (0, -errno.EEXIST):
            raise _failure(result)

    def add_rule(self, action: int, call: int, conditions: Sequence[Condition]) -> None:
        """Answer a call with `action` where all conditions hold; each must be on another argument.

        A rule without conditions makes those with conditions void. Raises OSError: EEXIST when an
        earlier rule says something else about the same arguments. On architectures that have
        socketcall(2) a rule about a socket call is one about socketcall(2) as well, with nothing
        of its conditions on the first argument, so two can contradict each other only there: add
        rules without conditions, such as one for socketcall(2), first.
        """
        array = (_Condition * len(conditions))(*(_Condition(*each) for each in conditions))
        result = _library().seccomp_rule_add_array(
            self._context, action, call, len(conditions), array
        )
        if result != 0:
            raise _failure(result)

    def export(self) -> bytes:
        """The program: an array of struct sock_filter."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = _library().seccomp_export_bpf(self._context, fd)
            if result != 0:
                raise _failure(result)
            size = os.lseek(fd, 0, os.SEEK_CUR)
            return os.pread(fd, size, 0)
        finally:
            os.close(fd)


def _failure(result: int) -> OSError:
    return OSError(-result, os.strerror(-result))
