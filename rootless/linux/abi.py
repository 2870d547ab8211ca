# SPDX-License-Identifier: Apache-2.0
"""The system call interface this interpreter speaks: its names, and numbers of calls that differ by it.

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import errno
import os
import sys

# uname(2)'s name -> the runtime specification's name (config-linux.md, "Seccomp") and Go's, which
# image configurations and docker's seccomp profiles use.
_NAMES = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64"),
    "i386": ("SCMP_ARCH_X86", "386"),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64"),
    "arm": ("SCMP_ARCH_ARM", "arm"),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv64"),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64", "loong64"),
    "ppc64": ("SCMP_ARCH_PPC64", "ppc64"),
    "ppc64le": ("SCMP_ARCH_PPC64LE", "ppc64le"),
    "s390x": ("SCMP_ARCH_S390X", "s390x"),
}

# Calls older than the numbering all architectures share; the kernel's syscall tables.
_NUMBERS = {
    "ioprio_set": {
        "x86_64": 251, "i386": 289, "aarch64": 30, "arm": 314, "riscv64": 30,
        "loongarch64": 30, "ppc64": 273, "ppc64le": 273, "s390x": 282,
    },
    "keyctl": {
        "x86_64": 250, "i386": 288, "aarch64": 219, "arm": 311, "riscv64": 219,
        "loongarch64": 219, "ppc64": 271, "ppc64le": 271, "s390x": 280,
    },
    "sched_setattr": {
        "x86_64": 314, "i386": 351, "aarch64": 274, "arm": 380, "riscv64": 274,
        "loongarch64": 274, "ppc64": 355, "ppc64le": 355, "s390x": 345,
    },
    "seccomp": {
        "x86_64": 317, "i386": 354, "aarch64": 277, "arm": 383, "riscv64": 277,
        "loongarch64": 277, "ppc64": 358, "ppc64le": 358, "s390x": 348,
    },
}  # fmt: skip


def _machine() -> str:
    """uname(2)'s machine, corrected for a 32-bit interpreter on a 64-bit kernel."""
    name = os.uname().machine
    if name in ("i486", "i586", "i686") or (name == "x86_64" and sys.maxsize < 1 << 32):
        return "i386"
    if name.startswith("armv") or (name == "aarch64" and sys.maxsize < 1 << 32):
        return "arm"
    return name


MACHINE = _machine()
SECCOMP_NAME, GO_NAME = _NAMES.get(MACHINE, ("", MACHINE))


def number(call: str) -> int:
    """The number of an older system call here; OSError with ENOSYS on a machine not in the table."""
    try:
        return _NUMBERS[call][MACHINE]
    except KeyError:
        text = f"{call}: its number on {MACHINE} is not known"
        raise OSError(errno.ENOSYS, text) from None
