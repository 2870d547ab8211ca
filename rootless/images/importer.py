# SPDX-License-Identifier: Apache-2.0
"""An image of one layer from the archive of a root file system."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, NotFound
from rootless.images import changes, garbage, intake, manifests, space
from rootless.images.archive import media_type
from rootless.images.manifests import Layer
from rootless.images.patience import Cancellation
from rootless.oci import digest as digests
from rootless.oci import document
from rootless.oci import platform as platforms
from rootless.storage import compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.progress import Progress
    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.storage.blobs import Blobs
    from rootless.storage.layers import Unpacker

_CHUNK = 1 << 18
_STDIN = 0
_KEPT = ("none", "gzip", "zstd")  # what a layer may be compressed with; the rest is stored plain


def import_archive(
    paths: Paths,
    id_map: IdMap,
    source: str,
    name: Reference | None,
    *,
    instructions: Iterable[str] = (),
    message: str = "",
    platform: Platform | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Make an image of a tar archive, a file or "-" for standard input; returns its record.

    `instructions` are of the kind `images.changes` knows. Raises UsageError, NotFound, Invalid,
    NoSpace.
    """
    settings = changes.apply(instructions, {})
    store = intake.Store.of(paths, id_map)
    with (
        garbage.content_in_use(paths) as mark,
        space.reporting_full(paths.data, f"import {source}"),
    ):
        layer = _store_layer(store.blobs, source)
        config = _config(layer, settings, message or f"Imported from {source}", platform)
        image = manifests.compose(document.dumps(config), (layer,), f"the config of {source}")

        def unpack(layer: Layer, unpacker: Unpacker | None) -> None:
            intake.unpack_blob(store, layer, unpacker, progress)

        missing = store.missing(image, progress)
        intake.unpack_layers(store, missing, unpack, Cancellation())
        return intake.commit(store, image, mark, [(name.canonical, "")] if name else ())


def _config(
    layer: Layer, settings: dict[str, Any], comment: str, platform: Platform | None
) -> dict[str, Any]:
    created = _now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    where = platform or platforms.Platform("linux", os.uname().machine)
    return {
        "created": created,
        **where.as_dict(),
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "comment": comment}],
    }


def _now() -> datetime:
    """The time, or the one of SOURCE_DATE_EPOCH: with it the same archive makes the same image.

    See https://reproducible-builds.org/specs/source-date-epoch.
    """
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(fixed), UTC) if fixed.isdecimal() else datetime.now(UTC)


def _store_layer(blobs: Blobs, source: str) -> Layer:
    """Store the archive as a blob and learn the digest of what is inside its compression."""
    if source == "-":
        return _copy(blobs, source, partial(os.read, _STDIN, _CHUNK))
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        reason = (problem.strerror or "unreadable").lower()
        raise NotFound(f"cannot read {source}: {reason}") from None
    try:
        return _copy(blobs, source, partial(os.read, fd, _CHUNK))
    finally:
        os.close(fd)


def _copy(blobs: Blobs, source: str, read: Callable[[], bytes]) -> Layer:
    first = read()
    while 0 < len(first) < 6 and (more := read()):
        first += more
    as_it_comes = compression.detect(first) in _KEPT
    hashing = digests.hasher()
    with blobs.writer() as writer:

        def take() -> bytes:
            nonlocal first
            data, first = (first, b"") if first else (read(), b"")
            if as_it_comes:
                writer.write(data)
            return data

        for chunk in compression.Decompressed(take):
            hashing.update(chunk)
            if not as_it_comes:
                writer.write(chunk)
        if not writer.size:
            raise Invalid(
                f"cannot import {source}: it is empty",
                hint="give the archive of a root file system: tar -C DIR -c . | rootless import -",
            )
        digest, size = writer.commit()
    diff_id = digests.parse(f"sha256:{hashing.hexdigest()}")
    return Layer(digest, diff_id, size, media_type(blobs, digest))
