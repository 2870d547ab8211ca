# SPDX-License-Identifier: Apache-2.0
"""Images as one archive: an OCI layout, with docker's own table of contents beside it.

Blobs go in as they are stored, each once, so digests stay; the same images make the same bytes.
Readers of either format find theirs (docker has written both since version 25).
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, NotFound
from rootless.images import outgoing
from rootless.oci import document, image, reference
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.manifests import Image
    from rootless.images.progress import Progress
    from rootless.images.records import Record
    from rootless.paths import Paths

FORMATS = ("docker", "oci")
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_FULL_NAME, _SHORT_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"


@dataclass
class Wanted:
    """An image and the canonical references it is saved under, which may be none."""

    record: Record
    names: list[str] = field(default_factory=list)


def save(
    paths: Paths,
    wanted: Iterable[Wanted],
    form: str,
    write: Callable[[bytes], object],
    progress: Progress,
) -> None:
    """Write the archive of some images, in one of FORMATS, piece by piece.

    Raises Invalid for an image that is not whole; what was written by then is no archive.
    """
    saving = _Archive(Blobs(paths), write, progress)
    contents = [(each, outgoing.stored(paths, each.record)) for each in wanted]
    tables = {"index.json": _index(contents), "oci-layout": _LAYOUT}
    if form == "docker":
        tables["manifest.json"] = document.dumps([_entry(*each) for each in contents])
        tables["repositories"] = _repositories(contents)
    saving.add_blobs(contents)
    for name in sorted(tables):
        saving.add(name, tables[name])
    saving.finish()


# -- tables of contents -------------------------------------------------------------------------


def _index(contents: list[tuple[Wanted, Image]]) -> bytes:
    """index.json: a descriptor for each name (image-layout.md); an image without one has none."""
    manifests: list[dict[str, Any]] = []
    for wanted, found in contents:
        manifests += [
            {**found.descriptor, "annotations": _annotations(name)} for name in wanted.names
        ] or [found.descriptor]
    return document.dumps({"schemaVersion": 2, "mediaType": image.INDEX, "manifests": manifests})


def _annotations(name: str) -> dict[str, str]:
    parsed = reference.parse(name)
    return {_FULL_NAME: name, _SHORT_NAME: parsed.tag or parsed.digest}


def _entry(wanted: Wanted, found: Image) -> dict[str, Any]:
    """An entry of manifest.json, docker's table of contents."""
    names = [reference.parse(name) for name in wanted.names]
    return {
        "Config": _member(found.id),
        "RepoTags": [name.familiar for name in names if name.tag] or None,
        "Layers": [_member(layer.digest) for layer in found.layers],
    }


def _repositories(contents: list[tuple[Wanted, Image]]) -> bytes:
    """What docker read before it had manifest.json: repository and tag to the uppermost layer."""
    found: dict[str, dict[str, str]] = {}
    for wanted, content in contents:
        for name in map(reference.parse, wanted.names):
            if name.tag and content.layers:
                top = content.layers[-1].digest.encoded
                found.setdefault(name.familiar_repository, {})[name.tag] = top
    return document.dumps({name: found[name] for name in sorted(found)})


def _member(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


# -- the archive --------------------------------------------------------------------------------


class _Archive:
    """A tar archive without owners and times."""

    def __init__(self, blobs: Blobs, write: Callable[[bytes], object], progress: Progress) -> None:
        self._blobs = blobs
        self._write = write
        self._progress = progress
        self._length = 0

    def add_blobs(self, contents: list[tuple[Wanted, Image]]) -> None:
        """Every blob of some images once, in the order of their digests."""
        layers = {str(layer.digest): layer.short for _, found in contents for layer in found.layers}
        digests = set(layers)
        for _, found in contents:
            digests |= {found.id, found.descriptor["digest"]}
        made: set[str] = set()
        for digest in sorted(digests):
            for directory in ("blobs/", f"blobs/{digest.partition(':')[0]}/"):
                if directory not in made:
                    made.add(directory)
                    self._header(directory, 0)
            self._add_blob(digest, layers.get(digest, ""))

    def add(self, name: str, data: bytes) -> None:
        """A file from memory."""
        self._header(name, len(data))
        self._put(data)
        self._pad(_BLOCK)

    def finish(self) -> None:
        """The end of the archive."""
        self._put(bytes(2 * _BLOCK))
        self._pad(_RECORD)

    def _add_blob(self, digest: str, key: str) -> None:
        try:
            size = self._blobs.size(digest)
        except NotFound as problem:
            raise outgoing.incomplete(digest[7:19], problem.message) from None
        self._header(_member(digest), size)
        if key:
            self._progress.start(key, "Saving", size)
        written = 0
        with self._blobs.open(digest) as reader:
            while data := reader.read():
                written += len(data)
                self._put(data)
                if key:
                    self._progress.advance(key, len(data))
        if written != size:
            raise Invalid(f"cannot save blob {digest}: it changed meanwhile")
        if key:
            self._progress.done(key, "Saved")
        self._pad(_BLOCK)

    def _header(self, name: str, size: int) -> None:
        entry = tarfile.TarInfo(name.rstrip("/"))
        entry.size = size
        if name.endswith("/"):
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        self._put(entry.tobuf(tarfile.PAX_FORMAT))

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._length += len(data)

    def _pad(self, unit: int) -> None:
        self._put(bytes(-self._length % unit))
