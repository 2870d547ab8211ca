# SPDX-License-Identifier: Apache-2.0
"""Load the images of an archive: docker's and podman's `save`, and OCI layouts (tar or directory).

Everything in an archive is checked as if a registry had sent it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, NotFound
from rootless.images import garbage, intake, manifests, space
from rootless.images.manifests import Document, Image, Layer
from rootless.images.patience import Cancellation
from rootless.images.spool import Spool
from rootless.oci import digest as digests
from rootless.oci import document, image, platform, reference
from rootless.storage import compression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.images.progress import Progress
    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.storage.blobs import Blobs
    from rootless.storage.layers import Unpacker
    from rootless.storage.staging import Mark

_CHUNK = 1 << 18
_STDIN = 0
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_LAYER_TYPES = {"none": image.LAYER, "gzip": image.LAYER_GZIP, "zstd": image.LAYER_ZSTD}


@dataclass(frozen=True)
class Found:
    """An image in an archive and what it is called there; `digest` is that of its manifest."""

    image: Image
    names: tuple[Reference, ...]
    digest: str = ""


@dataclass(frozen=True)
class Loaded:
    """An image that was loaded and one of its names, "" when it has none."""

    record: dict[str, Any]
    name: str


def load(
    paths: Paths, id_map: IdMap, source: str, wanted: Platform | None, progress: Progress
) -> list[Loaded]:
    """Load every image of `source`: a file, a directory, or "-" for standard input.

    An image that is there for several platforms is loaded for `wanted` (default: this machine).
    Raises NotFound, Invalid, NoSpace; images that were complete before the failure stay.
    """
    shown = "the archive" if source == "-" else source
    store = intake.Store.of(paths, id_map)
    loaded = []
    with (
        garbage.content_in_use(paths) as mark,
        space.reporting_full(paths.data, f"load {shown}"),
    ):
        spool = Spool(store.blobs, shown)
        _fill(spool, source, paths)
        for found in _images(spool, store.blobs, wanted, shown):
            loaded += _commit(store, found, mark, progress)
    return loaded


def _commit(store: intake.Store, found: Found, mark: Mark, progress: Progress) -> list[Loaded]:
    def unpack(layer: Layer, unpacker: Unpacker | None) -> None:
        intake.unpack_blob(store, layer, unpacker, progress)

    missing = store.missing(found.image, progress)
    intake.unpack_layers(store, missing, unpack, Cancellation())
    names = [(name.canonical, found.digest) for name in found.names]
    record = intake.commit(store, found.image, mark, names)
    return [Loaded(record, name.familiar) for name in found.names] or [Loaded(record, "")]


def _fill(spool: Spool, source: str, paths: Paths) -> None:
    if source == "-":
        spool.add_tar(partial(os.read, _STDIN, _CHUNK))
        return
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise _unreadable(source, problem) from None
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            spool.add_directory(source)
            return
        space.require(paths.data, found.st_size, f"load {source}")
        spool.add_tar(partial(os.read, fd, _CHUNK))
    finally:
        os.close(fd)


def _unreadable(source: str, problem: OSError) -> NotFound:
    return NotFound(f"cannot read {source}: {(problem.strerror or 'unreadable').lower()}")


def _images(spool: Spool, blobs: Blobs, wanted: Platform | None, source: str) -> Iterator[Found]:
    """What is in the archive. One with both kinds of tables of content is read as an OCI layout."""
    layout, index, listing = map(spool.table, ("oci-layout", "index.json", "manifest.json"))
    if layout is not None and index is not None:
        _check_layout(layout, source)
        return _from_layout(spool, index, wanted, source)
    if listing is not None:
        return _from_docker(spool, blobs, listing, source)
    raise Invalid(
        f"cannot load {source}: it holds neither a docker archive nor an OCI layout",
        hint="the archive of a root file system becomes an image by: rootless import FILE NAME",
    )


# -- OCI layouts --------------------------------------------------------------------------------


def _check_layout(layout: bytes, source: str) -> None:
    """Image specification, image-layout.md, "oci-layout file"."""
    found = document.load_strict(layout, f"oci-layout in {source}")
    version = found.get("imageLayoutVersion") if isinstance(found, dict) else None
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise Invalid(
            f"cannot load {source}: it is an OCI layout of version {version!r:.50}, not 1"
        )


def _from_layout(
    spool: Spool, index: bytes, wanted: Platform | None, source: str
) -> Iterator[Found]:
    what = f"index.json in {source}"
    entries = image.check_index(document.load_strict(index, what), what)["manifests"]
    groups: dict[str, list[Any]] = {}
    for number, each in enumerate(entries):
        annotations = each.get("annotations") or {}
        name = next((annotations[key] for key in _NAMES if annotations.get(key)), "")
        groups.setdefault(name or f"#{number}", []).append(each)
    for name, group in groups.items():
        entry: Any = group[0] if len(group) == 1 else platform.choose(group, wanted)
        digest = digests.parse(entry["digest"])
        top = Document(spool.child(digest, entry["size"]), digest, entry["mediaType"])
        names = () if name.startswith("#") else (reference.parse(name),)
        found = manifests.choose(top, spool, wanted, names[0].familiar if names else what)
        for layer in found.layers:
            spool.content(f"blobs/{layer.digest.algorithm}/{layer.digest.encoded}")
        yield Found(found, names, str(digest))


# -- docker archives ----------------------------------------------------------------------------


def _from_docker(spool: Spool, blobs: Blobs, listing: bytes, source: str) -> Iterator[Found]:
    what = f"manifest.json in {source}"
    for number, entry in enumerate(_list(document.load_strict(listing, what), what, "")):
        where = f"[{number}]"
        if not isinstance(entry, dict):
            raise Invalid(f"cannot read {what}: {where}: expected an object")
        name = entry.get("Config")
        if not isinstance(name, str):
            raise Invalid(f"cannot read {what}: {where}.Config: expected a string")
        members = _list(entry.get("Layers") or [], what, f"{where}.Layers", str)
        tags = _list(entry.get("RepoTags") or [], what, f"{where}.RepoTags", str)
        config = blobs.read(spool.content(name)[0], manifests.MAX_SIZE)
        layers = _layers(spool, blobs, config, members, f"{name} in {source}")
        composed = manifests.compose(config, layers, f"{name} in {source}")
        yield Found(composed, tuple(reference.parse(tag) for tag in tags))


def _layers(
    spool: Spool, blobs: Blobs, config: bytes, members: list[str], source: str
) -> tuple[Layer, ...]:
    settings = image.check_config(document.load_strict(config, source), source)
    diff_ids = settings["rootfs"]["diff_ids"]
    if len(diff_ids) != len(members):
        raise Invalid(f"cannot read {source}: {len(diff_ids)} diff_ids for {len(members)} layers")
    layers = []
    for member, diff_id in zip(members, diff_ids, strict=True):
        digest, size = spool.content(member)
        layers.append(Layer(digest, digests.parse(diff_id), size, media_type(blobs, digest)))
    return tuple(layers)


def media_type(blobs: Blobs, digest: str) -> str:
    """What a stored layer is, by its first bytes; raises Invalid for what no layer may be."""
    with blobs.open(digest) as reader:
        kind = compression.detect(reader.read(8))
    if kind not in _LAYER_TYPES:
        raise Invalid(f"cannot use layer {digest}: {kind} is not a compression of layers")
    return _LAYER_TYPES[kind]


def _list(found: Any, source: str, path: str, kind: type = object) -> list[Any]:
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        words = "a list of strings" if kind is str else "a list"
        raise Invalid(f"cannot read {source}: {path + ': ' if path else ''}expected {words}")
    if len(found) > image.MAX_CHILDREN:
        raise Invalid(f"cannot read {source}: {path}: more than {image.MAX_CHILDREN} entries")
    return found
