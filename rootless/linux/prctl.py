# SPDX-License-Identifier: Apache-2.0
"""prctl(2), one function an operation. Runs between fork and exec; imports nothing later."""

from __future__ import annotations

from rootless.linux import libc

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_prctl = libc.declare(
    "prctl", libc.Int, libc.UnsignedLong, libc.UnsignedLong, libc.UnsignedLong, libc.UnsignedLong
)


def set_pdeathsig(signal: int) -> None:
    """Be sent `signal` when the parent dies; cleared by a change of credentials and by exec of setuid."""
    libc.check(_prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def set_dumpable(dumpable: bool) -> None:
    """Without it /proc/PID is root's: no process in the container can look into ours."""
    libc.check(_prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl")


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted set when all user ids become nonzero."""
    libc.check(_prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0), "prctl")


def set_child_subreaper(subreaper: bool) -> None:
    """Become the parent of descendants whose own parent ends."""
    libc.check(_prctl(_PR_SET_CHILD_SUBREAPER, int(subreaper), 0, 0, 0), "prctl")


def set_no_new_privs() -> None:
    """No exec grants privileges from here on; cannot be undone."""
    libc.check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def capbset_drop(capability: int) -> None:
    """Drop one capability from the bounding set."""
    libc.check(_prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")


def cap_ambient_raise(capability: int) -> None:
    """Add one permitted and inheritable capability to the ambient set."""
    libc.check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl")


def cap_ambient_clear() -> None:
    """Empty the ambient set."""
    libc.check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
