# SPDX-License-Identifier: Apache-2.0
"""`system reset`: the whole store goes, files of subordinate owners included."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from rootless.engine import containers
from rootless.errors import Conflict, HostUnable
from rootless.runtime import idmap, userns
from rootless.storage import locks

if TYPE_CHECKING:
    from rootless.paths import Paths


def reset(paths: Paths, *, force: bool = False) -> None:
    """Delete the store and the runtime directory. Raises Conflict while a container runs without `force`.

    Names go before what they name, so that an interrupted reset leaves a smaller store and no broken
    one; begun again it goes on. Raises HostUnable for a directory that is no store of ours.
    """
    if not os.path.isdir(paths.data):
        return
    _require_store(paths)
    if not force:
        _require_rest(paths)
    with (
        locks.Lock(paths.lock("store", "content"), wait=force),
        locks.Lock(paths.lock("store", "images")),
    ):
        for container in containers.known(paths):
            containers.remove(paths, container, force=True)
        for directory in (paths.references, paths.images, paths.containers, paths.names):
            _empty(directory)
        _empty(paths.data, keep=("version", "locks"))
        shutil.rmtree(paths.locks, ignore_errors=True)
    if os.path.exists(paths.version):
        os.unlink(paths.version)
    for directory in (paths.data, paths.run):
        try:
            userns.remove_tree(idmap.default(), directory)
        except OSError:
            if os.listdir(directory):  # a mount point stays, empty
                raise


def _require_store(paths: Paths) -> None:
    """Nothing but a store is deleted, whatever --root says."""
    if os.listdir(paths.data) and not os.path.isdir(paths.locks):
        raise HostUnable(
            f"cannot reset {paths.data}: it does not look like a store",
            hint="name the store's directory: rootless --root DIR system reset",
        )


def _require_rest(paths: Paths) -> None:
    for container in containers.list(paths):
        if container.is_running:
            shown = container.name or container.id[:12]
            raise Conflict(
                f"cannot reset the store: container {shown} is running",
                hint="stop it, or kill it with all others: rootless system reset -f",
            )


def _empty(directory: str, keep: tuple[str, ...] = ()) -> None:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if name in keep:
            continue
        path = f"{directory}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            userns.remove_tree(idmap.default(), path)
        else:
            os.unlink(path)
