# SPDX-License-Identifier: Apache-2.0
"""What every way into the store shares: content first, then the image that names it.

Pull, load and import differ in where bytes come from; here they meet.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rootless.images import manifests, parallel, records
from rootless.storage.blobs import Blobs
from rootless.storage.layers import Layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.manifests import Image, Layer
    from rootless.images.patience import Cancellation
    from rootless.images.progress import Progress
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.storage.layers import Unpacker
    from rootless.storage.staging import Mark

AT_A_TIME = 3  # layers, as many as docker; more would not fill a usual line better
BATCH = 8  # unpacking processes started ahead


@dataclass(frozen=True)
class Store:
    """The two halves of the store's content, under one id map."""

    paths: Paths
    blobs: Blobs
    layers: Layers

    @classmethod
    def of(cls, paths: Paths, id_map: IdMap) -> Store:
        """The store at `paths` for containers that use `id_map`."""
        return cls(paths, Blobs(paths), Layers(paths, id_map))

    def as_known(self, image: Image) -> Image:
        """The image with the layers it has here, should it have come before in another compression."""
        known = records.find(self.paths, image.id)
        if known is None or not all(self.blobs.has(each["digest"]) for each in known["layers"]):
            return image
        return replace(image, layers=manifests.layers_of(known))

    def missing(self, image: Image, progress: Progress) -> list[Layer]:
        """The layers of an image that are not there both as a blob and unpacked."""
        found = []
        for layer in dict.fromkeys(image.layers):
            if self.blobs.has(layer.digest) and self.layers.has(layer.diff_id):
                progress.done(layer.short, "Already exists")
            else:
                found.append(layer)
        return found


def unpack_layers(
    store: Store,
    layers: list[Layer],
    work: Callable[[Layer, Unpacker | None], None],
    cancellation: Cancellation,
) -> None:
    """Call `work` with each layer and an unpacker for it, several at a time.

    The unpacker is None for a layer that is unpacked already. The unpacking processes are forked
    before any thread exists: a fork of a process with threads copies locks nobody will release.
    """
    for start in range(0, len(layers), BATCH):
        batch = layers[start : start + BATCH]
        with ExitStack() as stack:
            # Each unpacker holds the lock of its layer: in one order, or two pulls wait for each
            # other, and once, or we wait for ourselves.
            unpackers: dict[str, Unpacker] = {}
            for layer in sorted(batch, key=lambda layer: layer.diff_id):
                if layer.diff_id not in unpackers and not store.layers.has(layer.diff_id):
                    opening = store.layers.unpacker(layer.diff_id, size_hint=layer.size)
                    unpackers[layer.diff_id] = stack.enter_context(opening)
            pieces = [partial(work, each, unpackers.pop(each.diff_id, None)) for each in batch]
            parallel.run(pieces, AT_A_TIME, cancellation)


def unpack_blob(store: Store, layer: Layer, unpacker: Unpacker | None, progress: Progress) -> None:
    """Unpack a layer whose blob is in the store."""
    if unpacker is None or not unpacker.is_needed:
        progress.done(layer.short, "Already exists")
        return
    progress.start(layer.short, "Extracting", layer.size)
    with store.blobs.open(layer.digest) as reader:
        while chunk := reader.read():
            unpacker.write(chunk)
            progress.advance(layer.short, len(chunk))
    unpacker.finish()
    progress.done(layer.short, "Pull complete")


def commit(
    store: Store, image: Image, mark: Mark, names: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Make an image known whose layers are all stored, and let references name it; returns its record.

    `names` are canonical references and what a registry calls the image there, or "". If we are killed
    before it has the first of them, it goes again. An image that came before under another manifest
    keeps the one it came with first: its blobs are the ones that are kept.
    """
    names = tuple(names)
    with records.unchanging(store.paths):  # or somebody removes it before it has its names
        known = records.undamaged(partial(records.find, store.paths, image.id))
        if known is None or not all(map(store.blobs.has, _blobs(known))):
            store.blobs.put(image.config)
            store.blobs.put(image.manifest)
            size = sum(store.layers.info(layer.diff_id)["size"] for layer in image.layers)
            if names and known is None:
                mark.note(image.id)
            known = image.record(size)
            records.save(store.paths, known)
        for canonical, digest in names:
            wanted = {"reference": canonical, "image": image.id, "digest": digest}
            found = records.undamaged(partial(records.find_reference, store.paths, canonical))
            if found != wanted:
                records.tag(store.paths, canonical, image.id, digest)
    return dict(known)


def _blobs(record: dict[str, Any]) -> list[str]:
    """The digests of all blobs of an image."""
    return [record["id"], record["manifest"]["digest"], *(e["digest"] for e in record["layers"])]
