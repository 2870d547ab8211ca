# SPDX-License-Identifier: Apache-2.0
"""Locks: one flock(2)ed file an object, held by processes, gone with them.

A lock file stays where it is; an empty file is cheaper than the race of removing it. Order, where
two are held: image before layer before blob.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless import log
from rootless.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

PATIENCE = 5.0  # seconds of waiting in silence
_FIRST_NAP, _LONGEST_NAP = 0.001, 0.05


class Lock:
    """Holds `path` locked while used as a context manager; `path` is one of `Paths.lock`.

    `shared` lets other shared holders in. With `wait=False` entering raises Conflict when somebody
    holds it. After PATIENCE seconds of waiting a warning names the holder.
    """

    __slots__ = ("_fd", "path", "shared", "wait")

    def __init__(self, path: str, *, shared: bool = False, wait: bool = True) -> None:
        self.path = path
        self.shared = shared
        self.wait = wait
        self._fd = -1

    def __enter__(self) -> Lock:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def try_enter(self) -> bool:
        """Enter unless somebody holds it."""
        try:
            self.__enter__()
        except Conflict:
            return False
        return True

    def release(self) -> None:
        """Let others in; harmless when not held."""
        if self._fd >= 0:
            # Unlocking and not only closing: a process forked meanwhile still has the descriptor.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1

    def _acquire(self) -> None:
        mode = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        nap, give_word = _FIRST_NAP, time.monotonic() + PATIENCE
        while not try_lock(self._fd, mode):
            if not self.wait:
                raise Conflict(f"in use: {os.path.basename(self.path)}{_by_whom(self._fd)}")
            if time.monotonic() > give_word:
                log.warning("lock.waiting", lock=self.path, held=_by_whom(self._fd).strip())
                fcntl.flock(self._fd, mode)
                return
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)


def try_lock(fd: int, mode: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file or directory; False when somebody holds it."""
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _by_whom(fd: int) -> str:
    """` by process 123 (rootless pull debian)`, as far as /proc/locks tells; see proc(5)."""
    inode = f":{os.fstat(fd).st_ino}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            rows = [line.split() for line in table]
    except OSError:
        return ""
    for row in rows:
        if "FLOCK" in row[1:2] and row[5].endswith(inode) and row[4] != "-1":
            return f" by process {row[4]} ({_command_of(row[4])})"
    return ""


def _command_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).replace(b"\0", b" ")
    except OSError:
        return "gone"
    return words.decode(errors="replace").strip()
