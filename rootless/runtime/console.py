# SPDX-License-Identifier: Apache-2.0
"""A terminal for the container: the pty is made inside it, its master comes out to the relay.

`Terminal` runs between fork and exec; imports nothing later. The relay lives in the parent.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import sys

from rootless.linux import mount, openat2, terminal
from rootless.runtime.rootfs import Stage, Step, ensure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CHUNK = 1 << 16


class Terminal(Step):
    """Open a pty in the container's own devpts, make it the controlling terminal and /dev/console."""

    __slots__ = ("_ours", "_theirs", "is_console", "size")
    name = "terminal"

    def __init__(self, size: bytes | None, reason: str = "", *, is_console: bool = True) -> None:
        super().__init__(reason)
        self.is_console = is_console  # process 1's: also /dev/console
        self.size = size  # struct winsize
        self._ours: _socket.socket | None = None
        self._theirs: _socket.socket | None = None

    def describe(self) -> str:
        return "a new pty as standard streams and /dev/console"

    def connect(self) -> None:
        """Before the fork: make the way the master will come."""
        self._ours, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def connect_to(self, path: str) -> None:
        """Before the fork: the master goes to the listener at `path` (runc's --console-socket)."""
        self._theirs = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        directory, _, name = os.path.abspath(path).rpartition("/")
        # An address holds 107 bytes, a path may be longer: go there by a descriptor.
        fd = os.open(directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._theirs.connect(f"/proc/self/fd/{fd}/{name}")
        except OSError as problem:
            reason = f"cannot connect to the console socket: {problem.strerror}"
            raise OSError(problem.errno, reason, path) from None
        finally:
            os.close(fd)

    def close(self) -> None:
        """After the fork: the child has its own copy of the connection."""
        if self._theirs is not None:
            self._theirs.close()

    def execute(self, stage: Stage) -> None:
        master = openat2.in_root(stage.root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        slave = terminal.open_peer(master)
        if self.size is not None:
            terminal.set_window_size(master, self.size)
        assert self._theirs is not None
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))]
        self._theirs.sendmsg([b"/dev/ptmx"], rights)
        os.close(master)
        terminal.become_controlling(slave)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        if self.is_console:
            console = ensure(stage.root, "/dev/console", directory=False)
            flags = mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH
            tree = mount.open_tree(slave, "", flags)
            mount.move_mount(tree, console)
            os.close(tree)
            os.close(console)
        os.close(slave)

    def receive(self) -> int:
        """In the parent: the descriptor of the master."""
        assert self._ours is not None
        assert self._theirs is not None
        self._theirs.close()
        _, ancillary, _, _ = self._ours.recvmsg(64, _socket.CMSG_LEN(4))
        self._ours.close()
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                master = int.from_bytes(data[:4], "little")
                os.set_inheritable(master, False)
                return master
        raise OSError(errno.EPROTO, "the container did not send its terminal")


def window_size(process: dict[str, Any]) -> bytes | None:
    """The consoleSize of a `process` of the specification as struct winsize, None without one."""
    size = process.get("consoleSize")
    if not size:
        return None
    height, width = int(size["height"]), int(size["width"])
    return height.to_bytes(2, sys.byteorder) + width.to_bytes(2, sys.byteorder) + bytes(4)


class Relay:
    """Copies bytes between descriptors until the container's side is done.

    Directions are pairs of descriptors. A destination that goes away ends its direction only.
    """

    def __init__(self) -> None:
        self._directions: dict[int, tuple[int, Callable[[], None] | None]] = {}
        self._wanted: set[int] = set()

    def add(
        self,
        source: int,
        destination: int,
        *,
        wait_for: bool,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        """Copy from source to destination; `wait_for` keeps `run` going until the source ends."""
        self._directions[source] = (destination, at_end)
        if wait_for:
            self._wanted.add(source)

    def run(self, wakeup: int, on_wakeup: Callable[[], bool]) -> None:
        """Copy until every awaited source has ended.

        When `wakeup` becomes readable `on_wakeup` is called; once it answers True the container
        has ended, and what its pipes still hold is the last that is copied.
        """
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        for source in self._directions:
            poll.register(source, select.POLLIN)
        ended = False
        while self._wanted:
            ready = poll.poll(0 if ended else None)
            if ended and not any(fd in self._wanted for fd, _ in ready):
                return
            for fd, _ in ready:
                if fd == wakeup:
                    ended = on_wakeup() or ended
                elif fd in self._directions and not self._copy(fd):
                    poll.unregister(fd)
                    self._end(fd)

    def _copy(self, source: int) -> bool:
        destination, _ = self._directions[source]
        try:
            data = os.read(source, _CHUNK)
            # EIO is how a pty master says that nobody has its other end open any more.
            while data:
                written = _write(destination, data)
                data = data[written:]
                if not data:
                    return True
        except OSError as problem:
            if problem.errno not in (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO):
                raise
        return False

    def _end(self, source: int) -> None:
        _, at_end = self._directions.pop(source)
        self._wanted.discard(source)
        if at_end is not None:
            at_end()


def _write(fd: int, data: bytes) -> int:
    """One write, waiting where the descriptor does not block."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            select.select((), (fd,), ())
