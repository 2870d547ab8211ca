# SPDX-License-Identifier: Apache-2.0
"""The one door to the C library: declares functions and turns their -1 into OSError.

Runs between fork and exec; imports nothing later. `_ctypes` is used directly: the `ctypes` package
around it builds dozens of types nobody here needs and costs 2 ms of a 15 ms container start.
"""

from __future__ import annotations

import _ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CDECL_WITH_ERRNO = 0x1 | 0x8  # FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO


_metatype: Any = type(_ctypes._SimpleCData)
_array: Any = type(_ctypes.Array)


def _simple(code: str) -> Any:
    """A C type by its letter in the struct module's alphabet."""
    return _metatype(code, (_ctypes._SimpleCData,), {"_type_": code})


Int = _simple("i")
Long = _simple("l")  # also ssize_t, and what syscall(2) returns
UnsignedLong = _simple("L")  # also size_t, and flags of 64 bits
Bytes = _simple("z")  # const char *: bytes or None
Pointer = _simple("P")  # void *: the address of a Buffer
_Char = _simple("c")
Buffer = _array("Buffer", (_ctypes.Array,), {"_type_": _Char, "_length_": 256})
POINTER_SIZE = 8 if sys.maxsize > 1 << 32 else 4


class _Function(_ctypes.CFuncPtr):
    _flags_ = _CDECL_WITH_ERRNO
    _restype_ = Long


class _IntFunction(_ctypes.CFuncPtr):
    _flags_ = _CDECL_WITH_ERRNO
    _restype_ = Int


_handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]


def declare(name: str, *argtypes: type) -> Callable[..., int]:
    """The C library's function `name`, returning int. Call it through `check`."""
    function = _IntFunction(_ctypes.dlsym(_handle, name))
    function.argtypes = argtypes
    return function


def declare_syscall(number: int, *argtypes: type) -> Callable[..., int]:
    """The system call `number` of syscall(2), for what the C library may not wrap yet.

    Calls added since Linux 5.0 have the same number on all architectures; for older ones
    `linux.abi` knows it.
    """
    function = _Function(_ctypes.dlsym(_handle, "syscall"))
    function.argtypes = (Long, *argtypes)
    return lambda *arguments: function(number, *arguments)


def check(result: int, call: str, path: object = None) -> int:
    """`result`, or OSError with errno, the name of the call and the path it was about."""
    if result < 0:
        number = _ctypes.get_errno()
        text = f"{call}: {os.strerror(number)}"
        if path is None:
            raise OSError(number, text)
        raise OSError(number, text, path)
    return result


def address_of(buffer: Any) -> int:
    """The address of a Buffer, for a Pointer argument."""
    return _ctypes.addressof(buffer)


def buffer(data: bytes) -> Any:
    """A Buffer of just the size of `data`, filled with it; it lives as long as it is referred to."""
    kind = _array("Buffer", (_ctypes.Array,), {"_type_": _Char, "_length_": len(data)})
    return kind.from_buffer_copy(data)


def u64(*values: int) -> bytes:
    """Values as an array of 64-bit words in the machine's byte order: a C struct of __u64."""
    return b"".join(value.to_bytes(8, sys.byteorder) for value in values)


def u32(*values: int) -> bytes:
    """Values as an array of 32-bit words in the machine's byte order: a C struct of __u32."""
    return b"".join(value.to_bytes(4, sys.byteorder) for value in values)
