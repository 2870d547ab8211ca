# SPDX-License-Identifier: Apache-2.0
"""Clearing up after a killed `run`: containers whose keeper is gone.

A keeper holds a lock on the container's directory for as long as it lives, and from before there is
anything else. So a directory nobody holds is whole: a finished or a running container to keep, one
that was to be removed at its end, or one that was never completed.
"""

from __future__ import annotations

import os

from rootless import log
from rootless.engine import names
from rootless.errors import Invalid
from rootless.oci import document
from rootless.runtime import idmap, state, userns
from rootless.storage import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.paths import Paths


def sweep(paths: Paths, container_ids: Iterable[str] | None = None) -> int:
    """Remove what nobody keeps and nobody wants; returns how many containers that were.

    Looks at the given ids, or at all there are in the store and in the runtime directory.
    """
    if container_ids is None:
        container_ids = {*_list(paths.containers), *_list(paths.running)}
        _release_lost_names(paths)
    swept = 0
    for container_id in container_ids:
        try:
            swept += _sweep_one(paths, container_id)
        except OSError as problem:
            log.warning("container.left", id=container_id, reason=problem.strerror)
    return swept


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _sweep_one(paths: Paths, container_id: str) -> bool:
    now = state.load(paths.state_directory(container_id))
    if state.is_alive(now):
        return False
    try:
        holding = os.open(
            paths.container(container_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except FileNotFoundError:
        state.remove(paths.state_directory(container_id))
        return False
    try:
        if not locks.try_lock(holding):
            return False
        record = _record(paths, container_id)
        if record is not None and not record.get("auto_remove"):
            state.remove(paths.state_directory(container_id))
            return False
        log.info("container.swept", id=container_id, complete=record is not None)
        doomed = f"{paths.tmp}/container.{container_id}"
        os.rename(paths.container(container_id), doomed)
        _release_names(paths, container_id)
        state.remove(paths.state_directory(container_id))
        userns.remove_tree(idmap.default(), doomed)
        return True
    finally:
        os.close(holding)


def _record(paths: Paths, container_id: str) -> dict[str, object] | None:
    """The record, None where there never was one, and an empty one where it is damaged: the
    container's files are somebody's data even then."""
    try:
        record = document.load(paths.container_record(container_id))
    except FileNotFoundError:
        return None
    except (Invalid, OSError):
        return {}
    return record if isinstance(record, dict) else {}


def _release_lost_names(paths: Paths) -> None:
    """A container's directory is there before its name and goes before it."""
    for name in _list(paths.names):
        try:
            owner = os.readlink(paths.name(name))
        except OSError:
            continue
        if not os.path.isdir(paths.container(owner)):
            names.release(paths, name, owner)


def _release_names(paths: Paths, container_id: str) -> None:
    for name in _list(paths.names):
        names.release(paths, name, container_id)
