# SPDX-License-Identifier: Apache-2.0
"""keyctl(2): session keyrings. Runs between fork and exec; imports nothing later."""

from __future__ import annotations

import os

from rootless.linux import abi, libc

_JOIN_SESSION_KEYRING = 1


def join_session_keyring(name: str) -> int:
    """Leave the session keyring for the one of that name, made if there is none; returns its serial.

    Raises OSError: ENOSYS from a kernel without keys, EDQUOT when the user has too many
    (/proc/sys/kernel/keys/maxkeys). See keyctl_join_session_keyring(3).
    """
    call = libc.declare_syscall(abi.number("keyctl"), libc.Long, libc.Bytes)
    return libc.check(call(_JOIN_SESSION_KEYRING, os.fsencode(name)), "keyctl", name)
