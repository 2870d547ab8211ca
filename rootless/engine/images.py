# SPDX-License-Identifier: Apache-2.0
"""The use cases of images: pull, load, import, list, inspect, remove. What the doors call."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.errors import Conflict, Invalid, NotFound, RegistryError, RootlessError
from rootless.images import records, recovery
from rootless.images.progress import Silent
from rootless.oci import document, reference
from rootless.oci import platform as platforms
from rootless.oci.reference import Reference
from rootless.runtime import idmap
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.archive import Loaded
    from rootless.images.outgoing import Form
    from rootless.images.progress import Progress
    from rootless.images.pull import Pulled
    from rootless.images.push import Pushed
    from rootless.oci.platform import Platform
    from rootless.paths import Paths

_MAX_CONFIG = document.MAX_SIZE


@dataclass(frozen=True)
class Listed:
    """One row of a listing of images: a reference and its image, or an image without one.

    `reference` is canonical or "", `digest` what the registry called it or "", `created` RFC 3339.
    """

    reference: str
    digest: str
    id: str
    created: str
    size: int
    record: dict[str, Any]


# -- bringing in --------------------------------------------------------------------------------


def pull(
    paths: Paths,
    wanted: str | Reference,
    platform: Platform | None = None,
    progress: Progress | None = None,
    *,
    verify_tls: bool = True,
) -> dict[str, Any]:
    """Pull an image and return its record; see `fetch`."""
    return fetch(paths, wanted, platform, progress, verify_tls=verify_tls).record


def fetch(
    paths: Paths,
    wanted: str | Reference,
    platform: Platform | None = None,
    progress: Progress | None = None,
    *,
    verify_tls: bool = True,
) -> Pulled:
    """Pull an image for `platform` (default: this machine) under the caller's default id map.

    Raises RegistryError and its kinds, NotFound, Invalid, NoSpace, HostUnable.
    """
    from rootless.images import mirrors as mirroring
    from rootless.images import pull as pulling  # with an HTTP library that a listing does not need
    from rootless.images.registry import Registry
    from rootless.storage.partial import Unresumable

    parsed = reference.parse(wanted) if isinstance(wanted, str) else wanted
    _refuse_host(parsed)
    recovery.open_store(paths)

    def once(domain: str, path: str) -> Pulled:
        registry = Registry(domain, path, verify_tls=verify_tls)
        try:
            return pulling.pull(
                paths, idmap.default(), parsed, platform, registry, progress or Silent()
            )
        finally:
            registry.close()

    *mirrors, home = mirroring.sources(parsed)
    for mirror in mirrors:
        try:
            return once(*mirror)
        except (RegistryError, NotFound, Invalid) as problem:
            log.warning("mirror.failed", mirror="/".join(mirror), reason=problem.message)
    try:
        return once(*home)
    except Unresumable as problem:
        log.warning("pull.begins_anew", reason=problem.message)
        return once(*home)


def load(
    paths: Paths,
    source: str,
    platform: Platform | None = None,
    progress: Progress | None = None,
) -> builtins.list[Loaded]:
    """Load the images of an archive: a file, a directory, or "-" for standard input."""
    from rootless.images import archive, garbage

    recovery.open_store(paths)
    try:
        return archive.load(paths, idmap.default(), source, platform, progress or Silent())
    finally:
        garbage.collect(paths)


def import_(
    paths: Paths,
    source: str,
    name: Reference | None = None,
    *,
    changes: Iterable[str] = (),
    message: str = "",
    platform: Platform | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make an image of the archive of a root file system; returns its record."""
    from rootless.images import garbage, importer

    recovery.open_store(paths)
    try:
        return importer.import_archive(
            paths,
            idmap.default(),
            source,
            name,
            instructions=changes,
            message=message,
            platform=platform,
            progress=progress or Silent(),
        )
    except RootlessError:
        garbage.collect(paths)
        raise


def remote_tags(wanted: Reference, *, verify_tls: bool = True) -> builtins.list[str]:
    """Every tag that the registry has of a repository; raises RegistryError and its kinds."""
    from rootless.images.registry import Registry

    registry = Registry(wanted.domain, wanted.path, verify_tls=verify_tls)
    try:
        return [*registry.tags()]
    finally:
        registry.close()


# -- taking out ---------------------------------------------------------------------------------


def push(
    paths: Paths,
    name: Reference,
    progress: Progress | None = None,
    *,
    form: Form | None = None,
    platform: Platform | None = None,
    verify_tls: bool = True,
) -> Pushed:
    """Push the image called `name` to the registry its name says; see `images.push`.

    `form` is a compression for its layers. Raises RegistryError and its kinds, NotFound, Invalid.
    """
    from rootless.images import garbage
    from rootless.images import push as pushing
    from rootless.images.registry import Registry

    record = records.get(paths, name.familiar)
    _refuse_embedded(record, "push")
    require_platform(record, platform, name.familiar)
    recovery.open_store(paths)
    registry = Registry(name.domain, name.path, verify_tls=verify_tls, verb="push")
    try:
        with garbage.content_in_use(paths):
            return pushing.push(paths, name, record, registry, progress or Silent(), form)
    finally:
        registry.close()


def save(
    paths: Paths,
    names: Iterable[str],
    write: Callable[[bytes], object],
    progress: Progress | None = None,
    *,
    form: str = "docker",
    platform: Platform | None = None,
) -> None:
    """Write one archive of images; a name without a tag means every tag of that repository.

    `form` is one of `images.save.FORMATS`. Raises NotFound, Invalid, and what `write` raises.
    """
    from rootless.images import garbage
    from rootless.images import save as saving

    wanted: dict[str, saving.Wanted] = {}
    for name in names:
        for record, canonical in _named(paths, name):
            _refuse_embedded(record, "save")
            require_platform(record, platform, name)
            chosen = wanted.setdefault(record["id"], saving.Wanted(record))
            if canonical and canonical not in chosen.names:
                chosen.names.append(canonical)
    with garbage.content_in_use(paths):
        saving.save(paths, wanted.values(), form, write, progress or Silent())


def _named(paths: Paths, text: str) -> builtins.list[tuple[dict[str, Any], str]]:
    """(record, canonical reference or "") of every image that `text` means."""
    record = records.find(paths, text)
    try:
        parsed = reference.parse(text)
    except RootlessError:
        parsed = None
    is_bare = parsed and not parsed.digest and not text.endswith(f":{parsed.tag}")
    if parsed and is_bare and (record is None or records.find_reference(paths, parsed.canonical)):
        tags = [each for each in _names(paths) if each.repository == parsed.repository]
        if tags:
            return [(records.get(paths, each.canonical), each.canonical) for each in tags]
    if record is None:
        record = records.get(paths, text)
    known = parsed is not None and records.find_reference(paths, parsed.canonical) is not None
    return [(record, parsed.canonical if parsed and known and parsed.tag else "")]


# -- names --------------------------------------------------------------------------------------


def tag(paths: Paths, source: str, target: str) -> None:
    """Give an image one more name; raises NotFound, Invalid, Conflict.

    A name in the repository that the image came from keeps the digest it is known by there.
    """
    record = records.get(paths, source)
    _refuse_embedded(record, "tag")
    name = reference.parse(target)
    if name.digest:
        raise Invalid(
            f"cannot tag {target}: a name with a digest is nobody's to give",
            hint="leave out the digest: rootless tag IMAGE NAME:TAG",
        )
    digest = next(
        (
            entry["digest"]
            for entry in records.list_references(paths)
            if entry["image"] == record["id"]
            and entry["digest"]
            and reference.parse(entry["reference"]).repository == name.repository
        ),
        "",
    )
    with records.unchanging(paths):
        records.get(paths, record["id"])  # still
        records.tag(paths, name.canonical, record["id"], digest)


def untag(paths: Paths, image: str, names: Iterable[str] = ()) -> builtins.list[str]:
    """Take names from an image, all of them if none are given, and keep the image; the names taken.

    Raises NotFound for a name that is none of the image's.
    """
    record = records.get(paths, image)
    own = [e["reference"] for e in records.list_references(paths) if e["image"] == record["id"]]
    doomed = [reference.parse(name).canonical for name in names] or own
    for canonical in doomed:
        if canonical not in own:
            raise NotFound(
                f"{reference.parse(canonical).familiar} is no name of {image}",
                hint="rootless images",
            )
    for canonical in doomed:
        records.untag(paths, canonical)
    return [reference.parse(canonical).familiar for canonical in doomed]


def _names(paths: Paths) -> builtins.list[Reference]:
    return [reference.parse(entry["reference"]) for entry in records.list_references(paths)]


def tags_of(paths: Paths, repository: str) -> builtins.list[Reference]:
    """Every tag of a repository (`docker.io/library/debian`) that is here; raises NotFound for none."""
    found = [name for name in _names(paths) if name.repository == repository and name.tag]
    if not found:
        raise NotFound(f"no such image: no tag of {repository} is here", hint="rootless images")
    return found


def _refuse_embedded(record: dict[str, Any], verb: str) -> None:
    if record.get("host"):
        raise Conflict(
            f"cannot {verb} host: that is the image made of this machine's own userland",
            hint=f"name an image that was pulled, loaded or imported: rootless {verb} IMAGE",
        )


def require_platform(record: dict[str, Any], wanted: Platform | None, name: str) -> None:
    """Raise NotFound unless an image runs on the platform that is wanted, if one is."""
    if wanted is None:
        return
    found = platforms.of(record["platform"])
    if found not in platforms.candidates(wanted):
        raise NotFound(
            f"no image for {wanted}: {name} is here for {found}", hint=f"--platform {found}"
        )


def _refuse_host(wanted: Reference) -> None:
    if wanted.familiar == f"{records.HOST}:{reference.DEFAULT_TAG}":
        raise Conflict(
            "cannot pull host: that is the image made of this machine's own userland",
            hint="it is always there: rootless run host; or name a registry: REGISTRY/host",
        )


# -- looking at ---------------------------------------------------------------------------------


def list(paths: Paths) -> builtins.list[Listed]:
    """A row for each reference, and one for each image without; the newest image first."""
    recovery.settle(paths)
    images = {record["id"]: record for record in records.list_images(paths)}
    rows = []
    for entry in records.list_references(paths):
        if entry["image"] in images:
            rows.append(_row(images[entry["image"]], entry["reference"], entry["digest"]))
    named = {row.id for row in rows}
    rows += [_row(record) for image_id, record in images.items() if image_id not in named]
    return sorted(rows, key=lambda row: (row.created, row.id, row.reference), reverse=True)


def _row(record: dict[str, Any], name: str = "", digest: str = "") -> Listed:
    return Listed(name, digest, record["id"], record["created"], record["size"], record)


def size(paths: Paths, image: str) -> int:
    """Bytes of an image's unpacked layers; 0 for one that is not there."""
    record = records.find(paths, image)
    return record["size"] if record else 0


def inspect(paths: Paths, name: str, platform: Platform | None = None) -> dict[str, Any]:
    """The document of one image, in the shape of docker's "ImageInspect".

    Raises NotFound, also for an image that is here for another platform.
    """
    record = records.get(paths, name)
    require_platform(record, platform, name)
    config = _config(paths, record)
    entries = [e for e in records.list_references(paths) if e["image"] == record["id"]]
    names = [reference.parse(entry["reference"]) for entry in entries]
    history = [each for each in config.get("history") or [] if isinstance(each, dict)]
    return {
        "Id": record["id"],
        "RepoTags": [name.familiar for name in names if name.tag],
        "RepoDigests": sorted(
            {
                f"{name.familiar_repository}@{entry['digest']}"
                for name, entry in zip(names, entries, strict=True)
                if entry["digest"]
            }
        ),
        "Parent": "",
        "Comment": history[-1].get("comment", "") if history else "",
        "Created": record["created"],
        "DockerVersion": "",
        "Author": config.get("author") or "",
        "Config": record["config"],
        "Architecture": record["platform"]["architecture"],
        "Variant": record["platform"].get("variant", ""),
        "Os": record["platform"]["os"],
        "Size": record["size"],
        "GraphDriver": {"Name": "layers", "Data": None},
        "RootFS": {"Type": "layers", "Layers": [each["diff_id"] for each in record["layers"]]},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": record["manifest"],
    }


def _config(paths: Paths, record: dict[str, Any]) -> dict[str, Any]:
    """The whole config document; {} for the embedded image, which has none."""
    blobs = Blobs(paths)
    if record.get("host") or not blobs.has(record["id"]):
        return {}
    found: dict[str, Any] = document.loads(blobs.read(record["id"], _MAX_CONFIG), record["id"])
    return found
