# SPDX-License-Identifier: Apache-2.0
"""Directories inside a tree under construction, by descriptor; no path of a stranger leads out.

Symbolic links are resolved as a process chrooted into the tree would (openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless.linux import openat2, tree
from rootless.storage import whiteouts

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINKS = 40  # as the kernel, path_resolution(7)
_MAX_OPEN = 64
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_MODE = 0o755  # of directories that an archive implies and does not list


class Tree:
    """The tree below the directory `fd`, changed by this process alone while it is used.

    Removing changes the working directory to `fd`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._open: dict[bytes, int] = {}
        self._kept: set[int] = set()

    def close(self) -> None:
        """Close what is open; `fd` stays the caller's."""
        self._kept.update(self._open.values())
        self._open.clear()
        while self._kept:
            os.close(self._kept.pop())

    def directory(self, path: bytes) -> int:
        """A descriptor (O_PATH) of the directory `path`, made when missing; ours, valid until the next call.

        Whatever stands in the way and is no directory is replaced by one. Raises OSError, ELOOP for
        links in circles.
        """
        fd = self._open.get(path)
        if fd is not None:
            return fd
        try:
            fd = self.find(path)
        except (FileNotFoundError, NotADirectoryError):
            fd = self._make(path)
        if len(self._open) >= _MAX_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = fd
        return fd

    def find(self, path: bytes) -> int:
        """A descriptor (O_PATH) of an existing directory, the caller's to close; raises OSError."""
        return openat2.in_root(self.fd, path or b".", _DIRECTORY)

    def open(self, path: bytes) -> int:
        """A descriptor for reading an existing directory, the caller's to close; raises OSError."""
        return openat2.in_root(self.fd, path or b".", os.O_RDONLY | os.O_DIRECTORY)

    def remove(self, name: bytes, directory: int) -> None:
        """Delete whatever `name` is in `directory`, with all below it."""
        mode = os.lstat(name, dir_fd=directory).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=directory)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._forget(directory)
        if stat.S_ISDIR(mode):
            os.fchdir(directory)
            tree.remove(os.fsdecode(name))
            os.fchdir(self.fd)

    def put_directory(self, name: bytes, directory: int) -> None:
        """See that `name` is a directory.

        One that takes the place of something else hides what lower layers have there, as the thing
        it replaces did.
        """
        try:
            os.mkdir(name, _MODE, dir_fd=directory)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                return
            self.remove(name, directory)
            os.mkdir(name, _MODE, dir_fd=directory)
            whiteouts.hide_lower(name, directory)

    def replace(self, make: Callable[[], None], name: bytes, directory: int) -> None:
        """Call `make`, which creates `name` and fails when there is one; then remove that first."""
        try:
            make()
        except FileExistsError:
            self.remove(name, directory)
            make()

    def _forget(self, in_use: int) -> None:
        """Resolved paths may lead elsewhere now; the directory being worked in stays open."""
        self._kept.update(self._open.values())
        self._open.clear()
        for fd in self._kept - {in_use}:
            os.close(fd)
        self._kept &= {in_use}

    def _make(self, path: bytes) -> int:
        """Walk to `path` component by component, making what is missing, in the tree always."""
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []  # directories walked through, none of them a link
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del done[-1:]
                continue
            target = self._step(b"/".join(done), name)
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(40, "Too many levels of symbolic links", path)
            if target.startswith(b"/"):
                done = []
            todo += target.split(b"/")[::-1]
        return self.find(b"/".join(done))

    def _step(self, parent: bytes, name: bytes) -> bytes | None:
        """Make `name` a directory unless it is a link, whose target is the answer."""
        directory = self.find(parent)
        try:
            try:
                return os.readlink(name, dir_fd=directory)
            except OSError:  # not a link, or nothing at all
                self.put_directory(name, directory)
                return None
        finally:
            os.close(directory)
