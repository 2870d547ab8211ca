# SPDX-License-Identifier: Apache-2.0
"""Where an archive goes: a file that appears complete or not at all, a pipe, or standard output."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def output(path: str | None, command: str) -> Iterator[Callable[[bytes], None]]:
    """A function that writes; `path` None or "-" is standard output, which must be no terminal.

    An ordinary file is written beside its place and renamed when all of it is there.
    """
    if path in (None, "-"):
        if sys.stdout.isatty():
            raise UsageError(
                "cowardly refusing to save to a terminal", hint=f"rootless {command} -o FILE ..."
            )
        sys.stdout.flush()
        yield _writer(sys.stdout.fileno())
        return
    assert path is not None
    try:
        is_ordinary = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        is_ordinary = True
    with _replacing(path) if is_ordinary else _writing(path) as write:
        yield write


@contextmanager
def _writing(path: str) -> Iterator[Callable[[bytes], None]]:
    """A pipe or a device, as it is."""
    fd = _open(path, os.O_WRONLY)
    try:
        yield _writer(fd)
    finally:
        os.close(fd)


@contextmanager
def _replacing(path: str) -> Iterator[Callable[[bytes], None]]:
    path = os.path.realpath(path)
    temporary = f"{path}.{os.urandom(6).hex()}"
    fd = _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        yield _writer(fd)
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        reason = (problem.strerror or "not possible").lower()
        raise NotFound(f"cannot write {path}: {reason}") from None


def _writer(fd: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]

    return write
