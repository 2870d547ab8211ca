# SPDX-License-Identifier: Apache-2.0
"""Send an image of the store to a registry: its layers, its config, and last the manifest by its tag.

What is named is there: a manifest is put only when every blob of it has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rootless.errors import DigestMismatch, Invalid, NotFound, RegistryError
from rootless.images import outgoing, parallel, records
from rootless.images.outgoing import Converted
from rootless.images.upload import EXISTS, MAX_MOUNTS, PUSHED, Outgoing, Repository
from rootless.oci import reference
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from rootless.images.manifests import Image, Layer
    from rootless.images.outgoing import Form
    from rootless.images.progress import Progress
    from rootless.images.records import Record
    from rootless.images.registry import Registry
    from rootless.oci.reference import Reference
    from rootless.paths import Paths

AT_A_TIME = 3  # blobs


@dataclass(frozen=True)
class Pushed:
    """What a push came to: the manifest's digest and its size in bytes."""

    digest: str
    size: int


def push(
    paths: Paths,
    target: Reference,
    record: Record,
    registry: Registry,
    progress: Progress,
    asked: Form | None = None,
) -> Pushed:
    """Send the image `record` to `target` and note the digest it has there.

    `asked` is a compression for its layers; without it they go as they came. Raises RegistryError
    and its kinds, and Invalid for an image that is not whole.
    """
    found = outgoing.stored(paths, record)
    repository = Repository(registry)
    repository.connect()
    sending = _Push(paths, target, registry, repository, progress)
    sent = sending.layers(found, outgoing.wanted_form(found, asked))
    sending.config(sent)
    media_type = sent.descriptor["mediaType"]
    digest = repository.put_manifest(target.tag or target.digest, sent.manifest, media_type)
    if target.tag:
        with records.unchanging(paths):
            if records.find(paths, record["id"]) is not None:
                records.tag(paths, target.canonical, record["id"], digest)
    return Pushed(str(digest), len(sent.manifest))


class _Push:
    """The blobs of one image on their way."""

    def __init__(
        self,
        paths: Paths,
        target: Reference,
        registry: Registry,
        repository: Repository,
        progress: Progress,
    ) -> None:
        self._paths = paths
        self._blobs = Blobs(paths)
        self._target = target
        self._registry = registry
        self._repository = repository
        self._progress = progress

    def layers(self, found: Image, form: Form | None) -> Image:
        """Send every layer, in `form` if one is given; the image with the layers as they are there."""
        unique = list(dict.fromkeys(found.layers))
        there: dict[Layer, Layer] = {}
        for layer in unique:
            self._progress.start(_short(layer), "Preparing", None)

        def one(layer: Layer) -> None:
            there[layer] = self._layer(layer, form)

        work = [partial(one, layer) for layer in unique]
        parallel.run(work, AT_A_TIME, self._registry.cancellation)
        return outgoing.recomposed(found, tuple(there[layer] for layer in found.layers))

    def config(self, sent: Image) -> None:
        """Send the config; docker does not mention it either."""
        if not self._repository.has_blob(sent.config_digest):
            blob = Outgoing(sent.config_digest, len(sent.config), partial(_Bytes, sent.config))
            self._repository.send(blob, "", lambda _count: None)

    def _layer(self, layer: Layer, form: Form | None) -> Layer:
        if form is None or not outgoing.needs_change(layer, form):
            self._stored_blob(layer)
            return layer
        known = outgoing.known_form(self._paths, layer, form)
        if known is not None:
            if self._blobs.has(known.digest):
                self._stored_blob(known)
                return known
            found, begun = self._there(known)
            if found:
                return known
        else:
            begun = ""
        self._progress.start(_short(layer), "Compressing", None)
        converted = Converted(self._paths, layer, form, self._registry.cancellation)
        try:
            made = converted.layer
            outgoing_blob = Outgoing(made.digest, made.size, converted.open)
            if made == known:
                self._send(made, outgoing_blob, begun)
            else:
                self._blob(made, outgoing_blob)
            return made
        finally:
            converted.close()

    def _stored_blob(self, layer: Layer) -> None:
        try:
            size = self._blobs.size(layer.digest)
        except NotFound as problem:
            raise outgoing.incomplete(self._target.familiar, problem.message) from None
        if size != layer.size:
            raise _damaged(layer)
        try:
            self._blob(
                layer, Outgoing(layer.digest, size, partial(self._blobs.stream, layer.digest))
            )
        except RegistryError:
            self._check(layer)
            raise

    def _blob(self, layer: Layer, blob: Outgoing) -> None:
        """One blob: found there, taken from a neighbour, or sent."""
        found, begun = self._there(layer)
        if not found:
            self._send(layer, blob, begun)

    def _there(self, layer: Layer) -> tuple[bool, str]:
        """Whether the repository has a blob, by itself or from a neighbour; else an upload begun."""
        key = _short(layer)
        if self._repository.has_blob(layer.digest):
            self._progress.done(key, EXISTS)
            return True, ""
        neighbour, begun = self._repository.mount(layer.digest, self._neighbours(layer.diff_id))
        if neighbour:
            self._progress.done(key, f"Mounted from {_shown(neighbour, self._target)}")
        return bool(neighbour), begun

    def _send(self, layer: Layer, blob: Outgoing, begun: str) -> None:
        key = _short(layer)
        self._progress.start(key, "Pushing", blob.size)
        self._repository.send(blob, begun, partial(self._progress.advance, key))
        self._progress.done(key, PUSHED)

    def _neighbours(self, diff_id: str) -> list[str]:
        """Repositories of this registry that very likely have the layer, as we know their images."""
        found: dict[str, None] = {}
        holders = {
            record["id"]
            for record in records.list_images(self._paths)
            if any(layer["diff_id"] == diff_id for layer in record["layers"])
        }
        for entry in records.list_references(self._paths):
            if entry["image"] not in holders or not entry["digest"]:
                continue
            known = reference.parse(entry["reference"])
            if known.domain == self._target.domain and known.path != self._target.path:
                found[known.path] = None
        return list(found)[:MAX_MOUNTS]

    def _check(self, layer: Layer) -> None:
        """A blob that a registry refuses may be damaged here: then say that."""
        try:
            with self._blobs.open(layer.digest) as reader:
                while reader.read():
                    pass
        except DigestMismatch:
            raise _damaged(layer) from None


def _short(layer: Layer) -> str:
    """As docker shows it: the beginning of the digest of the layer's content."""
    return layer.diff_id.encoded[:12]


def _shown(path: str, target: Reference) -> str:
    return reference.Reference(target.domain, path, "x", "").familiar_repository


def _damaged(layer: Layer) -> Invalid:
    return Invalid(
        f"layer {layer.short} is damaged in the store", hint="rootless system check --repair"
    )


class _Bytes:
    """Bytes in memory as a stream."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._left = memoryview(data)[offset:]

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def close(self) -> None:
        """Nothing to do."""
