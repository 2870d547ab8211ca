# SPDX-License-Identifier: Apache-2.0
"""One blob again, from where its image came from: for a store that lost it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.errors import Invalid, RootlessError
from rootless.images import records
from rootless.images.patience import Patience
from rootless.oci import digest as digests
from rootless.oci import reference
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from rootless.images.registry import Registry
    from rootless.oci.digest import Digest
    from rootless.paths import Paths

# Somebody waits for a check, and a registry that is down is no reason to hold it up.
_PATIENCE = Patience(tries=2, first_wait=0.2, connect=5.0, idle=20.0)


def name_of(paths: Paths, record: dict[str, Any]) -> str:
    """A name of the image as a person types it, "" when it has none."""
    return next((known.familiar for known in _names(paths, record)), "")


def fetch(paths: Paths, record: dict[str, Any], digest: str, size: int, what: str) -> bool:
    """Store the blob again; False when no registry that the image is named after has it.

    `what` is "config", "manifest" or "layer"; `size` is -1 where nobody knows it.
    """
    from rootless.images.registry import Registry  # with an HTTP library

    wanted = digests.parse(digest)
    for known in _names(paths, record):
        registry = Registry(known.domain, known.path, patience=_PATIENCE)
        try:
            _fetch(paths, registry, wanted, _size(paths, record, size, what), what)
            return True
        except (RootlessError, OSError) as problem:
            log.info("refetch.failed", digest=digest, name=known.familiar, reason=str(problem))
        finally:
            registry.close()
    return False


def _fetch(paths: Paths, registry: Registry, wanted: Digest, size: int, what: str) -> None:
    blobs = Blobs(paths)
    with blobs.writer(wanted, size if size >= 0 else None) as writer:
        if what == "manifest":
            writer.write(registry.manifest(wanted).body)
        else:
            for chunk in registry.blob(wanted, size):
                writer.write(chunk)
        writer.commit()


def _size(paths: Paths, record: dict[str, Any], size: int, what: str) -> int:
    """The size of a config stands in the manifest only."""
    if what != "config":
        return size
    from rootless.oci import document, image

    body = Blobs(paths).read(record["manifest"]["digest"], document.MAX_SIZE)
    return image.check_manifest(document.load_strict(body, "the manifest"), "the manifest")[
        "config"
    ]["size"]


def _names(paths: Paths, record: dict[str, Any]) -> list[reference.Reference]:
    found = []
    for entry in records.list_references(paths):
        if entry["image"] == record["id"]:
            try:
                found.append(reference.parse(entry["reference"]))
            except Invalid:
                continue
    return found
