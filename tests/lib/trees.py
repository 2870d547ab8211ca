# SPDX-License-Identifier: Apache-2.0
"""Directory trees as values: what is in them, as the root of a user namespace sees it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from rootless.oci import document
from rootless.runtime import userns
from rootless.runtime.idmap import IdMap

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class Node(NamedTuple):
    """One inode: `value` is a file's content, a link's target or a device's number."""

    type: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    value: str
    xattrs: dict[str, str]
    inode: int
    blocks: int


def read(id_map: IdMap, directory: str | Path) -> dict[str, Node]:
    """Every path below `directory`, "" being itself; owners as seen inside `id_map`."""
    top = os.fsencode(directory)

    def collect() -> bytes:
        found = []
        for parent, directories, files in os.walk(top):
            names = [os.path.join(parent, name) for name in (*directories, *files)]
            found += [_node(path, top) for path in names + ([top] if parent == top else [])]
        return document.dumps(found)

    rows: list[list[Any]] = document.loads(userns.call(id_map, collect))
    return {name: Node(kind, mode, tuple(owner), *rest) for name, kind, mode, owner, *rest in rows}


def names(id_map: IdMap, directory: str | Path) -> dict[str, str]:
    """Path -> type, and for files and links what is in them: `file content`, `link target`."""
    found = read(id_map, directory)
    return {name: f"{node.type} {node.value}".strip() for name, node in found.items() if name}


def digest(directory: Path) -> str:
    """One value for everything about a tree that a stranger could change, times included."""
    hashing = hashlib.sha256()
    for parent, directories, files in os.walk(directory):
        directories.sort()
        for path in [parent, *(os.path.join(parent, name) for name in sorted(files))]:
            status = os.lstat(path)
            told = (path, status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink)
            hashing.update(repr((*told, status.st_uid, status.st_ctime_ns)).encode())
            if stat.S_ISREG(status.st_mode):
                hashing.update(Path(path).read_bytes())
    return hashing.hexdigest()


def _node(path: bytes, top: bytes) -> list[Any]:
    status = os.lstat(path)
    kind = TYPES.get(stat.S_IFMT(status.st_mode), "other")
    value, xattrs = "", {}
    if kind == "link":
        value = os.fsdecode(os.readlink(path))
    elif kind == "device":
        value = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    elif kind == "file" and status.st_size < 1 << 20:
        value = Path(os.fsdecode(path)).read_bytes().decode("utf-8", "surrogateescape")
    if kind in ("file", "directory"):
        xattrs = {
            name: os.getxattr(path, name).decode("latin-1") for name in sorted(os.listxattr(path))
        }
    return [
        path[len(top) + 1 :].decode("utf-8", "backslashreplace"),
        kind,
        stat.S_IMODE(status.st_mode),
        [status.st_uid, status.st_gid],
        status.st_mtime_ns,
        value,
        xattrs,
        status.st_ino,
        status.st_blocks,
    ]
