# SPDX-License-Identifier: Apache-2.0
"""Manifest lists that are put together here: one name for images of several platforms.

A list is one JSON file below `Paths.manifests`: {"reference", "entries": [{"reference",
"descriptor", "body"}]}. Its members are images in the same registry; nothing of them is stored here
but their manifests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless.errors import Conflict, Invalid, NotFound
from rootless.images import manifests
from rootless.images.upload import Repository
from rootless.oci import digest as digests
from rootless.oci import document, image, platform, reference
from rootless.storage import staging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.images.manifests import Document
    from rootless.images.registry import Registry
    from rootless.oci.reference import Reference
    from rootless.paths import Paths

    Entry = dict[str, Any]
    List = dict[str, Any]
    Connect = Callable[[Reference], Registry]

_FAMILIES = {
    image.MANIFEST: image.INDEX,
    image.DOCKER_MANIFEST: image.DOCKER_INDEX,
}


# -- putting together ---------------------------------------------------------------------------


def create(
    paths: Paths,
    name: Reference,
    members: Sequence[Reference],
    connect: Connect,
    *,
    amend: bool = False,
) -> None:
    """Make the list `name` of images of a registry; with `amend` add them to one that is there.

    Raises Conflict for one that is there, RegistryError and its kinds, NotFound, Invalid.
    """
    known = find(paths, name)
    if known is not None and not amend:
        raise Conflict(
            f"manifest list {name.familiar} exists already",
            hint=f"add to it: rootless manifest create --amend {name.familiar} IMAGE...",
        )
    made: List = known or {"reference": name.canonical, "entries": []}
    for member in members:
        _add(made, _fetch(member, connect))
    _save(paths, name, made)


def annotate(paths: Paths, name: Reference, member: Reference, changes: dict[str, Any]) -> None:
    """Change the platform of one entry: keys architecture, os, variant, os.version, os.features.

    Raises NotFound for a list or an entry that is not there.
    """
    made = get(paths, name)
    entry = next((each for each in made["entries"] if each["reference"] == member.canonical), None)
    if entry is None:
        there = ", ".join(each["reference"] for each in made["entries"])
        raise NotFound(
            f"{member.familiar} is not in the manifest list {name.familiar}",
            hint=f"its entries are: {there}",
        )
    entry["descriptor"].setdefault("platform", {}).update(changes)
    _save(paths, name, made)


def _fetch(member: Reference, connect: Connect) -> Entry:
    """The manifest of an image and the platform that its config tells."""
    registry = connect(member)
    top = registry.manifest(member.digest or member.tag)
    parsed = document.load_strict(top.body, member.familiar)
    if image.kind(parsed, member.familiar, top.media_type) != image.MANIFEST:
        raise Invalid(
            f"cannot put {member.familiar} into a manifest list: it is one itself",
            hint="name the images in it by digest: rootless manifest inspect " + member.familiar,
        )
    checked = image.check_manifest(parsed, member.familiar)
    config = digests.parse(checked["config"]["digest"])
    settings = document.load_strict(
        registry.document(config, checked["config"]["size"]), f"the config of {member.familiar}"
    )
    told = platform.of(image.check_config(settings, f"the config of {member.familiar}")).as_dict()
    for key in ("os.version", "os.features"):
        if settings.get(key):
            told[key] = settings[key]
    descriptor = {
        "mediaType": checked.get("mediaType") or top.media_type or image.MANIFEST,
        "digest": str(top.digest),
        "size": len(top.body),
        "platform": told,
    }
    return {
        "reference": member.canonical,
        "descriptor": descriptor,
        "body": top.body.decode("utf-8"),
    }


def _add(made: List, entry: Entry) -> None:
    """An image that is in the list already is replaced."""
    kept = [each for each in made["entries"] if each["reference"] != entry["reference"]]
    made["entries"] = [*kept, entry]


# -- looking at ---------------------------------------------------------------------------------


def find(paths: Paths, name: Reference) -> List | None:
    """The list of that name, or None."""
    try:
        found: List = document.load(paths.manifest_list(name.canonical))
    except FileNotFoundError:
        return None
    return found


def get(paths: Paths, name: Reference) -> List:
    """Like `find`, but a list that is not there raises NotFound."""
    found = find(paths, name)
    if found is None:
        raise NotFound(
            f"no such manifest list: {name.familiar}",
            hint=f"rootless manifest create {name.familiar} IMAGE...",
        )
    return found


def names(paths: Paths) -> list[str]:
    """What every list is called, in order, as people type it."""
    try:
        found = [document.load(f"{paths.manifests}/{name}") for name in os.listdir(paths.manifests)]
    except FileNotFoundError:
        return []
    return sorted(reference.parse(each["reference"]).familiar for each in found)


def remove(paths: Paths, name: Reference) -> None:
    """Forget a list; raises NotFound."""
    try:
        os.unlink(paths.manifest_list(name.canonical))
    except FileNotFoundError:
        get(paths, name)
        raise
    staging.sync_directory(paths.manifests)


def index(made: List) -> dict[str, Any]:
    """The document that a list stands for: docker's when all its members are docker's, else OCI's."""
    entries = [each["descriptor"] for each in made["entries"]]
    families = {_FAMILIES.get(each["mediaType"], image.INDEX) for each in entries}
    media_type = families.pop() if len(families) == 1 else image.INDEX
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}


# -- sending ------------------------------------------------------------------------------------


def push(paths: Paths, name: Reference, registry: Registry, told: Callable[[str], None]) -> str:
    """Send a list and what of its members the repository lacks; the digest of the list.

    `told` gets a sentence for each member. Raises Invalid for members in another registry,
    RegistryError and its kinds.
    """
    made = get(paths, name)
    if not made["entries"]:
        raise Invalid(f"manifest list {name.familiar} is empty")
    repository = Repository(registry)
    repository.connect()
    for entry in made["entries"]:
        member = reference.parse(entry["reference"])
        if member.domain != name.domain:
            raise Invalid(
                f"cannot push {name.familiar}: its entry {member.familiar} is in another registry",
                hint=f"push it to {name.domain} first, and put it in from there",
            )
        body = entry["body"].encode()
        if member.path != name.path:
            _mount(repository, member, body)
            repository.put_manifest(
                entry["descriptor"]["digest"], body, entry["descriptor"]["mediaType"]
            )
        told(f"Pushed ref {name.repository}@{entry['descriptor']['digest']}")
    top = index(made)
    return str(repository.put_manifest(name.tag, document.dumps(top), top["mediaType"]))


def _mount(repository: Repository, member: Reference, body: bytes) -> None:
    """Every blob of a member, taken from the repository it is in."""
    parsed = image.check_manifest(document.load_strict(body, member.familiar), member.familiar)
    for each in (parsed["config"], *parsed["layers"]):
        if repository.has_blob(each["digest"]):
            continue
        found, _ = repository.mount(each["digest"], [member.path])
        if not found:
            raise NotFound(
                f"cannot push a manifest list with {member.familiar}: the registry does not give "
                f"{each['digest']} to another repository",
                hint=f"push {member.familiar} into the repository of the list first",
            )


def _save(paths: Paths, name: Reference, made: List) -> None:
    try:
        os.mkdir(paths.manifests, 0o700)
    except FileExistsError:
        pass
    temporary, fd = staging.make_file(paths, "manifest-list")
    try:
        data = document.dumps(made)
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
        os.rename(temporary, paths.manifest_list(name.canonical))
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    staging.sync_directory(paths.manifests)


def describe(top: Document, source: str) -> dict[str, Any]:
    """A manifest or index from a registry as a document; raises Invalid when it is neither."""
    parsed: dict[str, Any] = document.load_strict(top.body, source, max_size=manifests.MAX_SIZE)
    image.kind(parsed, source, top.media_type)
    return parsed
