# SPDX-License-Identifier: Apache-2.0
"""What is in a store, in a form in which two stores of the same content are equal."""

from __future__ import annotations

import os
from pathlib import Path

from rootless.paths import Paths


def census(paths: Paths) -> dict[str, int]:
    """Everything the store holds, with sizes in bytes; containers by number, since their ids are random."""
    found: dict[str, int] = {}
    for directory, depth in (("blobs", 2), ("layers", 2), ("images", 1), ("refs", 1)):
        for path in Path(paths.data, directory).glob("/".join("*" * depth)):
            found[str(path.relative_to(paths.data))] = _bytes(path)
    for name in ("tmp", "partial"):
        for path in Path(paths.data, name).glob("*"):
            found[f"{name}/{path.name}"] = _bytes(path)
    for name in ("containers", "names"):
        found[name] = len(_names(f"{paths.data}/{name}"))
    found["running"] = len(_names(paths.running))
    index = Path(paths.index)
    found["index.json"] = index.stat().st_size if index.exists() else 0
    return found


def difference(expected: dict[str, int], found: dict[str, int]) -> list[str]:
    """One line for each entry that two of them do not share."""
    return [
        f"{name}: {expected.get(name)} -> {found.get(name)}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def processes(store: str) -> list[str]:
    """Processes that know the store: by their arguments, environment or open files."""
    needle, found = os.fsencode(store), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            told = Path("/proc", pid, "cmdline").read_bytes()
            if needle in told or needle in Path("/proc", pid, "environ").read_bytes():
                found.append(f"{pid} {told.decode(errors='replace')!r}")
        except OSError:
            continue
    return found


def _bytes(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, files in os.walk(path)
        for name in files
    )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
