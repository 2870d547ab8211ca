# SPDX-License-Identifier: Apache-2.0
"""What differs between two stacks of layers, path by path, without mounting either.

Runs as the root of a user namespace, where every owner and mode can be read. Whiteouts and opaque
directories are taken for what they hide.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless.linux import openat2
from rootless.oci import document
from rootless.runtime import userns
from rootless.storage import whiteouts, xattrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.idmap import IdMap

    Found = dict[bytes, tuple[int, os.stat_result]]  # path -> (number of the layer, its lstat)

ADDED, CHANGED, DELETED = "A", "C", "D"
_CHUNK = 1 << 18
_RESOLVE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_XDEV
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def compare(id_map: IdMap, before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, "/path") of what is added, changed or deleted from one stack of trees to another.

    Trees are directories, lowest first. A change of times alone is none. Sorted by path.
    """

    def work() -> bytes:
        found = _compare(_Stack(before), _Stack(after))
        return document.dumps([[kind, os.fsdecode(path)] for kind, path in found])

    told = document.loads(userns.call(id_map, work), "a worker's answer")
    return [(kind, path) for kind, path in told]


class _Stack:
    """The merged view of some trees."""

    def __init__(self, trees: Sequence[str]) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.trees = list(trees)
        self._tops = [os.open(tree, flags) for tree in trees]
        self.found: Found = {}
        for number in range(len(trees)):
            self._add(number, b"")

    def open(self, path: bytes) -> int:
        """A descriptor of a regular file in the layer that shows it."""
        return openat2.openat2(self._tops[self.found[path][0]], path, _READ, 0, _RESOLVE)

    def link(self, path: bytes) -> bytes:
        """The target of a symbolic link."""
        parent, name = os.path.split(path)
        directory = self._directory(self.found[path][0], parent)
        try:
            return os.readlink(name, dir_fd=directory)
        finally:
            os.close(directory)

    def _directory(self, number: int, path: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return openat2.openat2(self._tops[number], path or b".", flags, 0, _RESOLVE)

    def _add(self, number: int, path: bytes) -> None:
        """Lay a directory of one tree over what is there."""
        pending = [path]
        while pending:
            directory = pending.pop()
            fd = self._directory(number, directory)
            try:
                if whiteouts.is_opaque(fd):
                    self._hide_below(directory)
                for name in os.listdir(fd):
                    child = os.path.join(directory, os.fsencode(name))
                    status = os.lstat(name, dir_fd=fd)
                    if self._put(number, child, status):
                        pending.append(child)
            finally:
                os.close(fd)

    def _put(self, number: int, path: bytes, status: os.stat_result) -> bool:
        """One entry; whether it is a directory to go into."""
        if whiteouts.is_whiteout(status):
            self._hide(path)
            return False
        is_directory = stat.S_ISDIR(status.st_mode)
        if path in self.found and not is_directory:
            self._hide(path)
        self.found[path] = (number, status)
        return is_directory

    def _hide(self, path: bytes) -> None:
        known = self.found.pop(path, None)
        if known is not None and stat.S_ISDIR(known[1].st_mode):
            self._hide_below(path)

    def _hide_below(self, path: bytes) -> None:
        prefix = path + b"/" if path else b""
        for each in [known for known in self.found if known.startswith(prefix)]:
            del self.found[each]


def _compare(before: _Stack, after: _Stack) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted(before.found.keys() | after.found.keys()):
        if path not in before.found:
            kind = ADDED
        elif path not in after.found:
            kind = DELETED
        elif _differs(before, after, path):
            kind = CHANGED
        else:
            continue
        found.append((kind, b"/" + path))
    return found


def _differs(before: _Stack, after: _Stack, path: bytes) -> bool:
    (one, old), (two, new) = before.found[path], after.found[path]
    if before.trees[one] == after.trees[two]:
        return False  # the same file of the same layer
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (
        new.st_mode, new.st_uid, new.st_gid, new.st_rdev
    ):  # fmt: skip
        return True
    if stat.S_ISLNK(old.st_mode):
        return before.link(path) != after.link(path)
    if not stat.S_ISREG(old.st_mode):
        return False
    return old.st_size != new.st_size or _content_differs(before, after, path)


def _content_differs(before: _Stack, after: _Stack, path: bytes) -> bool:
    first, second = before.open(path), after.open(path)
    try:
        if _attributes(first) != _attributes(second):
            return True
        while True:
            ours, theirs = os.read(first, _CHUNK), os.read(second, _CHUNK)
            if ours != theirs:
                return True
            if not ours:
                return False
    finally:
        os.close(first)
        os.close(second)


def _attributes(fd: int) -> dict[bytes, bytes]:
    names = [name for name in map(os.fsencode, os.listxattr(fd)) if xattrs.is_portable(name)]
    return {name: xattrs.portable(name, os.getxattr(fd, name)) for name in names}
