# SPDX-License-Identifier: Apache-2.0
"""A root file system that wants our mounts and files elsewhere, and what it wants them to reach."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.lib.command_line import CommandLine

Result = subprocess.CompletedProcess[str]
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100
_MOST = 1_000_000  # exchanges of a race that nobody ends


class Victim:
    """A root file system, the sentinel beside it, and the container made of it."""

    def __init__(self, rootless: CommandLine, root: Path, sentinel: Path) -> None:
        self.rootless = rootless
        self.root = root
        self.sentinel = sentinel

    def replace(self, name: str, target: str | os.PathLike[str]) -> None:
        """Put a symbolic link where the image has something else, or nothing."""
        path = self.root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
        path.symlink_to(target)

    def plant(self, name: str, marker: Path) -> None:
        """A program of the image that leaves a trace on the host if the host runs it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {marker}\n")
        path.chmod(0o755)

    def run(self, *words: str | os.PathLike[str], flags: tuple[str, ...] = ()) -> Result:
        """`rootless run` of a command in it; judges nothing."""
        return self.rootless("run", "--rm", *flags, "--rootfs", self.root, *words)

    def refused(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        """What is said when the container does not start."""
        done = self.run(*words, flags=flags)
        assert done.returncode == 125, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert done.stderr.startswith("rootless: ")
        return done.stderr

    def seen(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        """What a command prints that must succeed."""
        done = self.run(*words, flags=flags)
        assert done.returncode == 0, done.stderr
        return done.stdout


def exchange(one: Path, other: Path) -> None:
    """renameat2(2) with RENAME_EXCHANGE: there is no moment in which either name is missing."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Two names change places as fast as they can for as long as the block lasts."""
    over = threading.Event()

    def swap() -> None:
        for _ in range(_MOST):
            if over.is_set():
                return
            exchange(one, other)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        yield
    finally:
        over.set()
        swapper.join()
