# SPDX-License-Identifier: Apache-2.0
"""Pseudo-terminals and terminal modes: pty(7), ioctl_tty(2), termios(3).

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_PTMX = os.makedev(5, 2)
_UNIX98_PTY_SLAVE_MAJORS = range(136, 144)

# Positions in the list tcgetattr(3) returns.
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def open_peer(master: int) -> int:
    """The other end of a pty master, never by path: /dev/pts/N may be a trap (CVE-2025-52565).

    Raises OSError EINVAL when `master` is not a pty master.
    """
    status = os.fstat(master)
    if status.st_mode & 0o170000 != 0o020000 or status.st_rdev != _PTMX:
        raise OSError(errno.EINVAL, "/dev/pts/ptmx in the container is not a terminal master")
    fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.major(os.fstat(slave).st_rdev) not in _UNIX98_PTY_SLAVE_MAJORS:
        raise OSError(errno.EINVAL, "the terminal's other end is not a terminal")
    return slave


def become_controlling(slave: int) -> None:
    """Make `slave` the controlling terminal of this session, which must not have one."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def window_size(fd: int) -> bytes:
    """struct winsize of a terminal, as TIOCGWINSZ fills it."""
    return fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))


def set_window_size(fd: int, size: bytes) -> None:
    """Set struct winsize; the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


def make_raw(fd: int) -> list[object]:
    """Put a terminal into raw mode as cfmakeraw(3) does; returns what `restore` wants."""
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[_IFLAG] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[_OFLAG] &= ~termios.OPOST
    mode[_LFLAG] &= ~(
        termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
    )
    mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[_CC][termios.VMIN] = 1
    mode[_CC][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return before


def restore(fd: int, mode: list[object]) -> None:
    """Set a terminal back to the mode it had."""
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)  # type: ignore[arg-type]
