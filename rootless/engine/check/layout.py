# SPDX-License-Identifier: Apache-2.0
"""The frame of the store: its directories, version, marker of an OCI layout, and what nobody wants there."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rootless.engine import sweep
from rootless.engine.check.fault import Fault, Inspection, names
from rootless.errors import Conflict, RootlessError
from rootless.images import garbage, recovery
from rootless.linux import tree
from rootless.oci import document
from rootless.paths import LAYOUT_VERSION
from rootless.runtime import state
from rootless.storage import partial, staging, store

if TYPE_CHECKING:
    from rootless.paths import Paths


def restore(inspection: Inspection, found: list[Fault]) -> None:
    """Before anything else can be mended: the places it is done in."""
    paths = inspection.paths
    for fault in check(inspection):
        if fault.mend is not None and fault.kind in ("store", "directory"):
            try:
                fault.mend()
                fault.mended = True
            except (RootlessError, OSError) as problem:
                fault.failure = str(problem)
            found.append(fault)
    if not os.path.isdir(paths.tmp):
        store.open_store(paths)


def check(inspection: Inspection) -> Iterator[Fault]:
    """Version, marker, directories."""
    paths = inspection.paths
    yield from _check_version(paths)
    yield from _check_marker(paths)
    yield from _check_directories(paths)


def _check_version(paths: Paths) -> Iterator[Fault]:
    try:
        with open(paths.version, "rb") as file:
            found = file.read(64).strip()
    except FileNotFoundError:
        yield Fault("store", "version", "missing", functools.partial(store.open_store, paths))
        return
    except OSError as problem:
        mend = functools.partial(store.write_version, paths)
        yield Fault("store", "version", f"unreadable: {problem.strerror}".lower(), mend)
        return
    if found == b"%d" % LAYOUT_VERSION:
        return
    shown = found.decode(errors="replace")
    if found.isdigit():
        yield Fault(
            "store", "version", f"layout {shown} is not ours", hint="use the rootless that made it"
        )
    else:
        mend = functools.partial(store.write_version, paths)
        yield Fault("store", "version", f"damaged: {shown!r}", mend)


def _check_marker(paths: Paths) -> Iterator[Fault]:
    try:
        found = document.load(paths.oci_layout)
        if isinstance(found, dict) and found.get("imageLayoutVersion") == "1.0.0":
            return
        problem = "damaged"
    except FileNotFoundError:
        problem = "missing"
    except (RootlessError, OSError):
        problem = "damaged"
    yield Fault("store", "oci-layout", problem, functools.partial(store.write_marker, paths))


def _check_directories(paths: Paths) -> Iterator[Fault]:
    for path in (paths.data, *store.directories(paths)):
        shown = os.path.relpath(path, paths.data)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            mend = functools.partial(os.mkdir, path, 0o700)
            yield Fault("directory", shown, "missing", mend)
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield Fault("directory", shown, "not a directory", hint=f"move it away: {path}")
        elif status.st_uid != os.getuid():
            yield Fault("directory", shown, f"belongs to user {status.st_uid}", hint="chown it")
        elif stat.S_IMODE(status.st_mode) != 0o700:
            mode = stat.S_IMODE(status.st_mode)
            yield Fault(
                "directory", shown, f"has mode {mode:o}", functools.partial(os.chmod, path, 0o700)
            )


def check_leftovers(inspection: Inspection) -> Iterator[Fault]:
    """Work nobody finished, and what lies among the locks and is none."""
    paths = inspection.paths
    for path in staging.abandoned(paths):
        shown = "tmp/" + os.path.basename(path)
        yield Fault("leftover", shown, "abandoned work", functools.partial(recovery.settle, paths))
    for path in partial.stray(paths):
        shown = "partial/" + os.path.basename(path)
        yield Fault(
            "leftover", shown, "a download nobody wants", functools.partial(remove_entry, path)
        )
    for name in names(paths.locks):
        path = paths.locks + "/" + name
        if not stat.S_ISREG(os.lstat(path).st_mode):
            yield Fault(
                "file", "locks/" + name, "not a lock", functools.partial(remove_entry, path)
            )
        elif os.path.getsize(path):
            yield Fault(
                "file", "locks/" + name, "not empty", functools.partial(os.truncate, path, 0)
            )
    for container_id in names(paths.running):
        known = state.load(paths.state_directory(container_id))
        if not state.is_alive(known) and not os.path.isdir(paths.container(container_id)):
            mend = functools.partial(sweep.sweep, paths, [container_id])
            yield Fault("leftover", f"state of {container_id[:12]}", "no such container", mend)


def check_unused(inspection: Inspection) -> Iterator[Fault]:
    """Content that no image has. Not looked for while content is on its way into the store."""
    paths = inspection.paths
    try:
        with garbage.try_exclusive(paths):
            blobs, layers = garbage.unused_blobs(paths), garbage.unused_layers(paths)
    except Conflict:
        return
    mend = functools.partial(_collect, paths)
    for digest in blobs:
        yield Fault("blob", digest, "no image has it", mend)
    for key, diff_ids in layers.items():
        for diff_id in diff_ids:
            yield Fault("layer", f"{diff_id} ({key})", "no image has it", mend)


def _collect(paths: Paths) -> None:
    if garbage.collect(paths) is None:
        raise RootlessError("content is on its way into the store")


def remove_entry(path: str) -> None:
    """Delete whatever has that name."""
    if os.path.isdir(path) and not os.path.islink(path):
        tree.remove(path)
    else:
        os.unlink(path)
