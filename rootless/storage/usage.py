# SPDX-License-Identifier: Apache-2.0
"""How much of the disk a store takes: allocated blocks, each inode once, as du(1) counts them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless.oci import document
from rootless.runtime import userns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.runtime.idmap import IdMap

_BLOCK = 512  # what st_blocks counts, whatever the file system's own blocks are; stat(2)


def measure(id_map: IdMap, top: str, depths: Mapping[str, int]) -> dict[str, int]:
    """Bytes below the directory `top`, by relative path; their sum is what `du -s` says.

    A name in `top` is one figure, or with a depth in `depths` one for each entry so far down and one
    for each directory above. Counted as the root of `id_map`, who may look into every directory.
    """

    def work() -> bytes:
        return document.dumps(_Count(top).split(depths))

    found: dict[str, int] = document.loads(userns.call(id_map, work, isolated=False))
    return found


class _Count:
    def __init__(self, top: str) -> None:
        self._top = top
        self._seen: set[tuple[int, int]] = set()

    def split(self, depths: Mapping[str, int]) -> dict[str, int]:
        found = {"": self._own(self._top)}
        for name in _names(self._top):
            self._split(name, depths.get(name, 0), found)
        return found

    def _split(self, path: str, depth: int, found: dict[str, int]) -> None:
        full = f"{self._top}/{path}"
        if depth == 0 or not _is_directory(full):
            found[path] = self._tree(full)
            return
        found[path] = self._own(full)
        for name in _names(full):
            self._split(f"{path}/{name}", depth - 1, found)

    def _tree(self, path: str) -> int:
        total = self._own(path)
        pending = [path] if _is_directory(path) else []
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        status = entry.stat(follow_symlinks=False)
                        total += self._count(status)
                        if stat.S_ISDIR(status.st_mode):
                            pending.append(entry.path)
            except OSError:
                continue  # gone meanwhile
        return total

    def _own(self, path: str) -> int:
        try:
            return self._count(os.lstat(path))
        except FileNotFoundError:
            return 0

    def _count(self, status: os.stat_result) -> int:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            inode = (status.st_dev, status.st_ino)
            if inode in self._seen:
                return 0
            self._seen.add(inode)
        return status.st_blocks * _BLOCK


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
