# SPDX-License-Identifier: Apache-2.0
"""The layers of an image as they leave the store: as they came, or in another compression.

What came with a manifest of its own leaves as it came, to the byte. What was put together here
(from docker archives, by import) has no digest that anybody knows, so it is compressed on the way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, NotFound
from rootless.images import manifests, records
from rootless.images.manifests import Image, Layer
from rootless.oci import digest as digests
from rootless.oci import document, image
from rootless.storage import compress, compression, staging
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.images.patience import Cancellation
    from rootless.images.records import Record
    from rootless.paths import Paths

_TYPES = {"gzip": image.LAYER_GZIP, "zstd": image.LAYER_ZSTD, "uncompressed": image.LAYER}


@dataclass(frozen=True)
class Form:
    """A compression and its level, None for the usual one."""

    kind: str
    level: int | None = None

    @property
    def key(self) -> str:
        """A word for file names."""
        return self.kind if self.level is None else f"{self.kind}-{self.level}"


def stored(paths: Paths, record: Record) -> Image:
    """The documents of an image of the store, checked; raises Invalid when a part is missing."""
    blobs, name = Blobs(paths), record["id"][7:19]
    try:
        manifest = blobs.read(record["manifest"]["digest"], manifests.MAX_SIZE)
        config = blobs.read(record["id"], manifests.MAX_SIZE)
    except NotFound as problem:
        raise incomplete(name, problem.message) from None
    settings = image.check_config(document.load_strict(config, "its config"), "its config")
    layers = manifests.layers_of(record)
    return Image(
        record["manifest"], manifest, config, digests.parse(record["id"]), settings, layers
    )


def incomplete(name: str, reason: str) -> Invalid:
    """The error for an image whose content is not all there."""
    return Invalid(
        f"image {name} is not complete: {reason}", hint="pull or load it again: rootless pull IMAGE"
    )


def wanted_form(found: Image, asked: Form | None) -> Form | None:
    """What the layers of an image have to become, None when they go as they are."""
    if asked is not None:
        return asked
    if not any(layer.media_type.endswith(".tar") for layer in found.layers):
        return None
    composed = manifests.compose(found.config, found.layers, found.id)
    return Form("gzip") if composed.descriptor["digest"] == found.descriptor["digest"] else None


def needs_change(layer: Layer, form: Form) -> bool:
    """Whether a layer is in another compression than `form`, or a level was asked for."""
    suffix = {"gzip": "gzip", "zstd": "zstd"}.get(form.kind, "tar")
    return form.level is not None or not layer.media_type.endswith(suffix)


def recomposed(found: Image, layers: tuple[Layer, ...]) -> Image:
    """The image with other forms of its layers; the same image id."""
    if layers == found.layers:
        return found
    plain = tuple(replace(each, media_type=_plain(each.media_type)) for each in layers)
    return manifests.compose(found.config, plain, found.id)


def _plain(media_type: str) -> str:
    """The OCI media type of a layer that docker calls something else: a manifest has one family."""
    for kind, theirs in (("gzip", "gzip"), ("zstd", "zstd"), ("uncompressed", ".tar")):
        if media_type.endswith(theirs):
            return _TYPES[kind]
    return media_type


# -- other forms of a layer ---------------------------------------------------------------------


def known_form(paths: Paths, layer: Layer, form: Form) -> Layer | None:
    """The layer in that form as it was made before, or as another image of the store has it."""
    try:
        told = document.load(paths.compressed(layer.diff_id, form.key))
        return Layer(digests.parse(told["digest"]), layer.diff_id, told["size"], _TYPES[form.kind])
    except (OSError, Invalid, KeyError, TypeError):
        pass
    if form.level is not None:
        return None
    for record in records.list_images(paths):
        for each in record["layers"]:
            if each["diff_id"] == layer.diff_id and each["media_type"].endswith(form.kind):
                digest = digests.parse(each["digest"])
                return Layer(digest, layer.diff_id, each["size"], each["media_type"])
    return None


class Converted:
    """A layer in another form, in a temporary file that is gone when this is closed."""

    def __init__(self, paths: Paths, layer: Layer, form: Form, cancellation: Cancellation) -> None:
        self._path, self._fd = staging.make_file(paths, "layer")
        try:
            self.layer = self._convert(Blobs(paths), layer, form, cancellation)
            _remember(paths, self.layer, form)
        except BaseException:
            self.close()
            raise

    def open(self, offset: int) -> Any:
        """A stream of its bytes from an offset on."""
        stream = open(self._path, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
        stream.seek(offset)
        return stream

    def close(self) -> None:
        """Delete it."""
        os.unlink(self._path)
        os.close(self._fd)

    def _convert(self, blobs: Blobs, layer: Layer, form: Form, cancellation: Cancellation) -> Layer:
        engine = compress.compressor(form.kind, form.level)
        hashing, inside, size = digests.hasher(), digests.hasher(layer.diff_id.algorithm), 0

        def pieces() -> Iterator[bytes]:
            with blobs.open(layer.digest) as reader:
                for chunk in compression.Decompressed(reader.read):
                    cancellation.check()
                    inside.update(chunk)
                    yield engine.add(chunk)
            yield engine.finish()

        for data in pieces():
            hashing.update(data)
            size += len(data)
            while data:
                data = data[os.write(self._fd, data) :]
        found = f"{layer.diff_id.algorithm}:{inside.hexdigest()}"
        digests.check(layer.diff_id, found, f"layer {layer.diff_id}")
        digest = digests.parse(f"sha256:{hashing.hexdigest()}")
        return Layer(digest, layer.diff_id, size, _TYPES[form.kind])


def _remember(paths: Paths, made: Layer, form: Form) -> None:
    """Note digest and size, so that nobody compresses to find out that a registry has it."""
    path = paths.compressed(made.diff_id, form.key)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    temporary, fd = staging.make_file(paths, "compressed")
    try:
        os.write(fd, document.dumps({"digest": str(made.digest), "size": made.size}))
        os.rename(temporary, path)
    finally:
        os.close(fd)
