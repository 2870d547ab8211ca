# SPDX-License-Identifier: Apache-2.0
"""What our filters decide before libseccomp's rules: system calls that are newer than the library.

A distribution's libseccomp lags years behind the kernel, and a profile that allows a call it has
not heard of would silently refuse it. Since Linux 5.1 new calls have one number on all
architectures (MIPS and Alpha add an offset, and get no prelude), so a short list of numbers in
front of the library's program makes up for that. The library itself cannot: given a number without
a name it refuses to translate it for the other architectures of the filter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rootless.linux import seccomp

# include/uapi/asm-generic/unistd.h from the first number all have in common to Linux 7.0.
COMMON = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436,
    "openat2": 437, "pidfd_getfd": 438, "faccessat2": 439, "process_madvise": 440,
    "epoll_pwait2": 441, "mount_setattr": 442, "quotactl_fd": 443, "landlock_create_ruleset": 444,
    "landlock_add_rule": 445, "landlock_restrict_self": 446, "memfd_secret": 447,
    "process_mrelease": 448, "futex_waitv": 449, "set_mempolicy_home_node": 450, "cachestat": 451,
    "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455,
    "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463,
    "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467,
    "file_getattr": 468, "file_setattr": 469, "listns": 470, "rseq_slice_yield": 471,
}  # fmt: skip

# Late additions of single architectures.
_ALONE = {
    "SCMP_ARCH_X86_64": {"uretprobe": 335, "uprobe": 336},
    "SCMP_ARCH_RISCV64": {"riscv_hwprobe": 258, "riscv_flush_icache": 259},
}

# AUDIT_ARCH_*, linux/audit.h. x32 has none of its own: it is x86-64 with a bit in the numbers.
AUDIT = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
}
_X32_BIT = 0x40000000

# struct seccomp_data, and instructions of struct sock_filter (linux/filter.h).
_NUMBER, _ARCHITECTURE = 0, 4
_LOAD, _JUMP, _IF_EQUAL, _IF_GREATER, _IF_AT_LEAST, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06


def number(name: str, architecture: str) -> int | None:
    """The number of a newer call on SCMP_ARCH_*; None for a call that is in no table of ours."""
    if architecture not in AUDIT:
        return None
    return _ALONE.get(architecture, {}).get(name, COMMON.get(name))


def known(name: str) -> bool:
    """Whether the call is in a table of ours at all."""
    return name in COMMON or any(name in table for table in _ALONE.values())


class Part:
    """What is decided for one architecture: calls with their actions, and calls above `last`."""

    def __init__(self, architecture: str, calls: dict[int, int], last: int | None = None) -> None:
        self.architecture = architecture
        self.calls = calls
        self.last = last  # calls with greater numbers do not exist: ENOSYS. None: no such rule

    def instructions(self) -> bytes:
        """The code for this architecture, when the accumulator holds the current one's number."""
        code = b"".join(_decide(_IF_EQUAL, call, action) for call, action in self.calls.items())
        if self.last is not None:
            enosys = seccomp.RET_ERRNO | 38  # the kernel's own number, equal everywhere but on MIPS
            code += _decide(_IF_GREATER, self.last, enosys)
        # Common calls have low numbers and pass with one comparison.
        lowest = min([*self.calls, *([] if self.last is None else [self.last + 1])])
        code = _skip_unless(_IF_AT_LEAST, lowest, code)
        if self.architecture == "SCMP_ARCH_X86_64":
            code = _skip_if(_IF_AT_LEAST, _X32_BIT, code)
        return _instruction(_LOAD, _NUMBER) + code


def assemble(parts: Sequence[Part]) -> bytes:
    """The prelude for these architectures; it ends by running into the program after it."""
    wanted = [part for part in parts if part.calls or part.last is not None]
    code = b""
    for part in reversed(wanted):
        body = part.instructions() + _jump_over(code)
        code = _skip_unless(_IF_EQUAL, AUDIT[part.architecture], body) + code
    return _instruction(_LOAD, _ARCHITECTURE) + code if code else b""


def _decide(comparison: int, value: int, action: int) -> bytes:
    return _instruction(comparison, value, no=1) + _instruction(_RETURN, action)


def _skip_unless(comparison: int, value: int, code: bytes) -> bytes:
    return _instruction(comparison, value, yes=1) + _jump_over(code) + code


def _skip_if(comparison: int, value: int, code: bytes) -> bytes:
    return _instruction(comparison, value, no=1) + _jump_over(code) + code


def _jump_over(code: bytes) -> bytes:
    """An unconditional jump: a conditional one reaches no further than 255 instructions."""
    return _instruction(_JUMP, len(code) // seccomp.INSTRUCTION_SIZE)


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    order = sys.byteorder
    return code.to_bytes(2, order) + bytes((yes, no)) + value.to_bytes(4, order)


def highest(names: Iterable[str], architecture: str) -> int:
    """The greatest number a table of ours has for one of these names, or 0."""
    return max((number(name, architecture) or 0 for name in names), default=0)
