# SPDX-License-Identifier: Apache-2.0
"""Runs a command and everything it starts under ptrace(2), and kills all of it at one system call.

Counted are the calls that change something on disk. A seccomp filter stops the processes at those only
(SECCOMP_RET_TRACE), so the rest runs at full speed; `kill_at` N kills before the N-th is executed.
A traced process gains nothing by setuid programs, newuidmap among them: run it where one id is mapped.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootless.linux import prctl, seccomp
from rootless.linux.abi import MACHINE

_CHANGES = {
    "x86_64": (
        1, 18, 20,  # write, pwrite64, writev
        74, 75, 306,  # fsync, fdatasync, syncfs
        76, 77, 285, 326,  # truncate, ftruncate, fallocate, copy_file_range
        82, 264, 316,  # rename, renameat, renameat2
        83, 258, 84,  # mkdir, mkdirat, rmdir
        85, 86, 265, 87, 263, 88, 266,  # creat, link, linkat, unlink, unlinkat, symlink, symlinkat
        90, 91, 268, 92, 93, 94, 260,  # chmod, fchmod, fchmodat, chown, fchown, lchown, fchownat
        133, 259, 280,  # mknod, mknodat, utimensat
        188, 189, 190, 197, 198, 199,  # setxattr, removexattr and their kin
    ),
    "aarch64": (
        64, 68, 66, 82, 83, 267, 45, 46, 47, 285, 38, 276, 34, 37, 35, 36, 52, 53, 54, 55, 33, 88,
        5, 6, 7, 14, 15, 16,
    ),
}  # fmt: skip
_OPENAT = {"x86_64": 257, "aarch64": 56}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = tuple(_CHANGES)

_TRACEME, _CONT, _SETOPTIONS = 0, 7, 0x4200
_OPTIONS = 0x100080 | 0x0E | 0x10  # EXITKILL, TRACESECCOMP; FORK, VFORK, CLONE; EXEC
_EVENT_SECCOMP = 7
_WALL = 0x40000000
_LIMIT = 60  # seconds; only a hang reaches it


@dataclass(frozen=True)
class Outcome:
    """How a run ended: changes counted, exit status of the command (-N for signal N), how many were killed."""

    changes: int
    status: int
    killed: int
    output: str


def run(
    command: Sequence[str | os.PathLike[str]],
    environ: Mapping[str, str],
    log: Path,
    kill_at: int = 0,
) -> Outcome:
    """Run to the end, or to the `kill_at`-th change; returns when no process of it is left.

    The command's output goes into the file `log`. The tracing is done by a process of its own, so
    children of the caller are nobody's business.
    """
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(receiving)
            signal.alarm(_LIMIT)
            told = _supervise([os.fspath(word) for word in command], environ, log, kill_at)
            os.write(sending, json.dumps(told).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(sending)
    with open(receiving, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        raise RuntimeError(f"the supervisor ended with status {status}: {command}")
    changes, status, killed = json.loads(text)
    return Outcome(changes, status, killed, log.read_text(errors="replace"))


def _supervise(
    command: list[str], environ: Mapping[str, str], log: Path, kill_at: int
) -> tuple[int, int, int]:
    first = os.fork()
    if first == 0:
        _become(command, environ, log)
    tracer = _Tracer(first, kill_at)
    return tracer.follow()


def _become(command: list[str], environ: Mapping[str, str], log: Path) -> None:
    """The first process of the command; never returns."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for target, source in enumerate((null, output, output)):
            os.dup2(source, target)
        _ptrace(_TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)  # until the tracer has set its options
        prctl.set_no_new_privs()
        seccomp.load(_filter())
        os.execve(command[0], command, dict(environ))
    finally:
        os._exit(127)


class _Tracer:
    def __init__(self, first: int, kill_at: int) -> None:
        self._first = first
        self._kill_at = kill_at
        self._known: set[int] = set()
        self._changes = 0
        self._killed = 0
        self._status = 0

    def follow(self) -> tuple[int, int, int]:
        while True:
            try:
                pid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return self._changes, self._status, self._killed
            if os.WIFSTOPPED(status):
                self._stopped(pid, status)
                continue
            self._known.discard(pid)
            if pid == self._first:
                self._status = os.waitstatus_to_exitcode(status)

    def _stopped(self, pid: int, status: int) -> None:
        if self._killed:
            self._kill(pid)
            return
        delivered = os.WSTOPSIG(status)
        event = status >> 16
        if pid not in self._known:
            self._known.add(pid)
            if pid == self._first:
                _ptrace(_SETOPTIONS, pid, _OPTIONS)
            delivered = 0  # the stop every new process begins with
        elif event:
            delivered = 0
        if event == _EVENT_SECCOMP:
            self._changes += 1
            if self._changes == self._kill_at:
                for each in tuple(self._known):
                    self._kill(each)
                return
        _ptrace(_CONT, pid, delivered)

    def _kill(self, pid: int) -> None:
        self._killed += 1
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # a thread of a process that has been killed


def _ptrace(request: int, pid: int, data: int) -> None:
    if _libc.ptrace(request, pid, 0, data) < 0:
        number = ctypes.get_errno()
        if number != 3:  # ESRCH: somebody else killed it meanwhile
            raise OSError(number, os.strerror(number), "ptrace")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _filter() -> bytes:
    """Stop at changes, and at openat(2) with O_CREAT; foreign architectures run free."""
    numbers = _CHANGES[MACHINE]
    jumps = len(numbers)
    # struct seccomp_data: nr at 0, arch at 4, args from 16 on; see seccomp(2).
    code = [
        (0x20, 0, 0, 4),
        (0x15, 0, jumps + 5, _AUDIT[MACHINE]),
        (0x20, 0, 0, 0),
        *((0x15, jumps + 3 - at, 0, number) for at, number in enumerate(numbers)),
        (0x15, 0, 2, _OPENAT[MACHINE]),
        (0x20, 0, 0, 16 + 2 * 8),
        (0x45, 1, 0, os.O_CREAT),
        (0x06, 0, 0, seccomp.RET_ALLOW),
        (0x06, 0, 0, seccomp.RET_TRACE),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in code)
