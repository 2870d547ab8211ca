# SPDX-License-Identifier: Apache-2.0
"""Bring one image from a registry into the store; layers are unpacked while they arrive.

The order of commits is blobs, layers, image, reference: what a later step names is there, and an
image that can be named is whole.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless.errors import DigestMismatch, Invalid, NotFound
from rootless.images import garbage, intake, manifests, records, space
from rootless.storage import partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless.images.manifests import Image, Layer
    from rootless.images.progress import Progress
    from rootless.images.registry import Registry
    from rootless.oci.digest import Digest
    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.storage.blobs import Blobs, Writer
    from rootless.storage.layers import Unpacker


@dataclass(frozen=True)
class Pulled:
    """What a pull came to: the image, the digest the registry gave, and whether it is news."""

    record: dict[str, Any]
    digest: str
    is_news: bool


def pull(
    paths: Paths,
    id_map: IdMap,
    wanted: Reference,
    platform: Platform | None,
    registry: Registry,
    progress: Progress,
) -> Pulled:
    """Pull `wanted` for `platform` (default: this machine) and tag it.

    Raises RegistryError and its kinds, NotFound, Invalid, NoSpace; whatever happens, nothing is
    visible of an image that is not whole.
    """
    what = f"pull {wanted.familiar}"
    with garbage.content_in_use(paths) as mark, space.reporting_full(paths.data, what):
        top = registry.manifest(wanted.digest or wanted.tag)
        store = intake.Store.of(paths, id_map)
        origin = _Origin(store.blobs, registry)
        image = manifests.choose(top, origin, platform, wanted.familiar)
        before = records.undamaged(
            functools.partial(records.find_reference, paths, wanted.canonical)
        )
        pulling = _Pull(store, registry, progress)
        missing = pulling.missing(store.as_known(image), what)
        content = [digest for layer in missing for digest in (layer.digest, layer.diff_id)]
        with partial.Pull(paths, image.config_digest, content):
            pulling.layers(missing)
            record = intake.commit(store, image, mark, [(wanted.canonical, str(top.digest))])
    is_news = before is None or before["image"] != image.id
    return Pulled(record, str(top.digest), is_news)


class _Origin:
    """Documents from the store where it has them, else from the registry: an image that did not
    change costs one request."""

    def __init__(self, blobs: Blobs, registry: Registry) -> None:
        self._blobs = blobs
        self._registry = registry

    def child(self, digest: Digest, size: int) -> bytes:
        """A manifest or index that an index names."""
        return self._stored(digest, size) or self._registry.child(digest, size)

    def document(self, digest: Digest, size: int) -> bytes:
        """A config."""
        return self._stored(digest, size) or self._registry.document(digest, size)

    def _stored(self, digest: Digest, size: int) -> bytes:
        try:
            if self._blobs.size(digest) == size <= manifests.MAX_SIZE:
                return self._blobs.read(digest, manifests.MAX_SIZE)
        except (NotFound, Invalid):
            pass  # not here, or damaged: then it comes again
        return b""


class _Pull:
    """The layers of one image on their way."""

    def __init__(self, store: intake.Store, registry: Registry, progress: Progress) -> None:
        self._store = store
        self._registry = registry
        self._progress = progress

    def missing(self, image: Image, what: str) -> list[Layer]:
        """The layers to bring; raises NoSpace when they cannot fit."""
        missing = self._store.missing(image, self._progress)
        self._require_space(missing, what)
        return missing

    def layers(self, missing: list[Layer]) -> None:
        """Every layer stored and unpacked, or an exception."""
        intake.unpack_layers(self._store, missing, self._one, self._registry.cancellation)

    def _require_space(self, missing: Iterable[Layer], what: str) -> None:
        """At least the blobs must fit, and unpacked they are no smaller."""
        blobs, layers = self._store.blobs, self._store.layers
        needed = sum(
            layer.size * ((not blobs.has(layer.digest)) + (not layers.has(layer.diff_id)))
            for layer in missing
        )
        space.require(self._store.paths.data, needed, what)

    def _one(self, layer: Layer, unpacker: Unpacker | None) -> None:
        """One layer: its bytes go to the blob and to the unpacker as they come."""
        if self._store.blobs.has(layer.digest):
            intake.unpack_blob(self._store, layer, unpacker, self._progress)
            return
        self._progress.start(layer.short, "Downloading", layer.size)
        with partial.Writer(self._store.paths, layer.digest, layer.size) as writer:
            if writer.is_here:  # another process was at it
                intake.unpack_blob(self._store, layer, unpacker, self._progress)
                return
            for chunk in self._bytes(layer, writer):
                if unpacker is not None:
                    unpacker.write(chunk)
                self._progress.advance(layer.short, len(chunk))
            self._progress.start(layer.short, "Extracting", None)
            self._registry.cancellation.check()
            self._commit(layer, writer)
        if unpacker is not None:
            unpacker.finish()
        self._progress.done(layer.short, "Pull complete")

    def _bytes(self, layer: Layer, writer: partial.Writer) -> Iterator[bytes]:
        """What an earlier try left, then the rest as it comes and is written."""
        yield from writer.replay()
        for chunk in self._registry.blob(layer.digest, layer.size, writer.kept):
            writer.write(chunk)
            yield chunk

    def _commit(self, layer: Layer, writer: Writer) -> None:
        try:
            writer.commit()
        except DigestMismatch as problem:
            raise DigestMismatch(
                f"cannot pull layer {layer.short}: {self._registry.host} sends other bytes: "
                f"{problem.message}",
                hint="the registry or something before it is broken; pull again later",
            ) from None
