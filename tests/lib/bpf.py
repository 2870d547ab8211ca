# SPDX-License-Identifier: Apache-2.0
"""An interpreter of seccomp programs: asks a filter what it would answer, on any architecture."""

from __future__ import annotations

import functools
import struct

from rootless.linux import seccomp
from rootless.runtime.seccomp_prelude import AUDIT

Instruction = tuple[int, int, int, int]
X32_BIT = 0x40000000

_CONDITIONS = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: a & k != 0,
}


@functools.lru_cache(maxsize=8)
def disassemble(program: bytes) -> list[Instruction]:
    """code, jump if true, jump if false, value."""
    return list(struct.iter_unpack("=HBBI", bytes(program)))


def action(program: bytes, architecture: str, number: int, *arguments: int) -> int:
    """What the program answers to a call: a RET_ value of linux.seccomp with its data."""
    audit = AUDIT["SCMP_ARCH_X86_64" if architecture == "SCMP_ARCH_X32" else architecture]
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, audit, 0, *padded)
    code = disassemble(bytes(program))
    place = accumulator = 0
    while True:
        operation, yes, no, value = code[place]
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            place += value
        elif operation == 0x06:
            return value
        else:
            place += yes if _CONDITIONS[operation](accumulator, value) else no


def describe(value: int) -> str:
    """An action as a word: "allow", "errno 38", "kill thread" …"""
    words = {
        seccomp.RET_ALLOW: "allow",
        seccomp.RET_LOG: "log",
        seccomp.RET_KILL_THREAD: "kill thread",
        seccomp.RET_KILL_PROCESS: "kill process",
        seccomp.RET_TRAP: "trap",
        seccomp.RET_USER_NOTIF: "notify",
    }
    if value in words:
        return words[value]
    kind = {seccomp.RET_ERRNO: "errno", seccomp.RET_TRACE: "trace"}[value & 0xFFFF0000]
    return f"{kind} {value & 0xFFFF}"
