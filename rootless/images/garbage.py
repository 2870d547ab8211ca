# SPDX-License-Identifier: Apache-2.0
"""Content no image needs: found from the image records, deleted only while nobody brings new content."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless import log
from rootless.errors import Conflict
from rootless.images import records
from rootless.runtime import idmap
from rootless.storage import locks, partial, staging
from rootless.storage.blobs import Blobs
from rootless.storage.layers import Layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.paths import Paths
    from rootless.storage.staging import Mark


@contextmanager
def content_in_use(paths: Paths) -> Iterator[Mark]:
    """While held, no collection of unused content: it may be about to be named by an image.

    What was brought in vain is collected afterwards. If we are killed inside, the mark we leave makes
    the next command do so, and drop the images noted on it that got no name.
    """
    with staging.marked(paths) as mark:
        try:
            with locks.Lock(paths.lock("store", "content"), shared=True):
                yield mark
        except BaseException:
            if collect(paths) is None:
                mark.keep()
            raise


@contextmanager
def content_dropped(paths: Paths) -> Iterator[Mark]:
    """Around the removal of images: collects at the end, or leaves a mark for whoever can."""
    with staging.marked(paths) as mark:
        try:
            yield mark
        finally:
            if collect(paths) is None:
                mark.keep()


def collect(paths: Paths) -> int | None:
    """Delete blobs and layers that no image has; returns how many.

    None when content is on its way into the store (see `content_in_use`): then nothing was done.
    """
    try:
        with try_exclusive(paths):
            return _collect(paths)
    except Conflict:
        log.debug("garbage.postponed")
        return None


def try_exclusive(paths: Paths) -> locks.Lock:
    """A lock: while it is held no content comes into the store; entering raises Conflict if some does."""
    return locks.Lock(paths.lock("store", "content"), wait=False)


def unused_blobs(paths: Paths) -> list[str]:
    """The digests of blobs that no image has."""
    used = _used(paths)[0]
    return [digest for digest in Blobs(paths).digests() if digest not in used]


def unused_layers(paths: Paths) -> dict[str, list[str]]:
    """{key of an id map: diff ids} of layers that no image has; maps that no key spells are left out."""
    used = _used(paths)[1]
    found = {}
    for key in _keys(paths):
        id_map = idmap.from_key(key)
        if id_map is not None:
            diff_ids = Layers(paths, id_map).list()
            found[key] = [diff_id for diff_id in diff_ids if diff_id not in used]
    return found


def _collect(paths: Paths) -> int:
    if not records.are_readable(paths):
        log.warning("garbage.kept", reason="a record of an image is damaged")
        return 0
    blobs, count = Blobs(paths), 0
    for digest in unused_blobs(paths):
        blobs.delete(digest)
        count += 1
    for key, diff_ids in unused_layers(paths).items():
        id_map = idmap.from_key(key)
        assert id_map is not None
        for diff_id in diff_ids:
            Layers(paths, id_map).remove(diff_id)
        count += len(diff_ids)
    _forget_notes(paths)
    return count


def _forget_notes(paths: Paths) -> None:
    """Delete what was noted about compressing layers that no image has."""
    try:
        names = os.listdir(paths.compressed_notes)
    except FileNotFoundError:
        return
    used = {diff_id.partition(":")[2] for diff_id in _used(paths)[1]}
    for name in names:
        if name.partition(".")[0] not in used:
            staging.unlink(f"{paths.compressed_notes}/{name}")


def _used(paths: Paths) -> tuple[set[str], set[str]]:
    """The blobs and the layers of all images, and those an interrupted pull will ask for."""
    kept = partial.wanted(paths)
    blobs: set[str] = set(kept)
    layers: set[str] = set(kept)
    for record in records.list_images(paths):
        blobs |= {record["id"], record["manifest"]["digest"]}
        for layer in record["layers"]:
            blobs.add(layer["digest"])
            layers.add(layer["diff_id"])
    return blobs, layers


def _keys(paths: Paths) -> list[str]:
    try:
        return sorted(os.listdir(paths.layers))
    except FileNotFoundError:
        return []
