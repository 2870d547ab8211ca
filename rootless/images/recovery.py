# SPDX-License-Identifier: Apache-2.0
"""What every command does before it looks at or changes images: finish what a killed one left behind.

Idempotent, safe beside other commands, a few system calls when there is nothing to do.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from rootless import log
from rootless.errors import Invalid
from rootless.images import records
from rootless.storage import staging, store

if TYPE_CHECKING:
    from rootless.paths import Paths

# A store that cannot be written to can be read all the same.
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


def open_store(paths: Paths) -> None:
    """Make what is missing of the store, and `settle`; for commands that write to it."""
    store.open_store(paths)
    settle(paths)


def settle(paths: Paths) -> None:
    """Delete abandoned work, collect what a killed command brought or dropped, mend `index.json`."""
    if not os.path.isdir(paths.tmp):
        return
    try:
        staging.sweep(paths)
        marks = staging.abandoned_marks(paths)
        for mark in marks:
            for image_id in staging.noted(mark):
                _drop(paths, image_id)
        if marks and _collect(paths) is not None:
            for mark in marks:
                staging.unlink(mark)
        _sweep_downloads(paths)
        if records.is_index_stale(paths):
            records.write_index(paths)
    except OSError as problem:
        if problem.errno not in _UNWRITABLE:
            raise
        log.warning("store.unsettled", reason=problem.strerror)


def _sweep_downloads(paths: Paths) -> None:
    try:
        found = os.listdir(paths.partial)
    except FileNotFoundError:
        return
    if found:
        from rootless.storage import partial

        if partial.sweep(paths):
            _collect(paths)


def _collect(paths: Paths) -> int | None:
    from rootless.images import garbage  # with all that unpacks layers: not for every listing

    return garbage.collect(paths)


def _drop(paths: Paths, image_id: str) -> None:
    """An image whose coming or going was interrupted goes, unless it has a name or a container."""
    with records.removing(paths):
        named = any(entry["image"] == image_id for entry in records.list_references(paths))
        if named or records.is_used(paths, image_id):
            return
        try:
            known = records.find(paths, image_id)
        except Invalid:
            return  # damaged: for `system check` to judge
        if known is not None and not known.get("host"):
            records.delete(paths, image_id)
