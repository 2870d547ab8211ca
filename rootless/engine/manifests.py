# SPDX-License-Identifier: Apache-2.0
"""The use cases of manifest lists: create, annotate, inspect, push, forget."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid
from rootless.images import manifest_lists, recovery
from rootless.images.registry import Registry
from rootless.oci import document, image, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rootless.oci.reference import Reference
    from rootless.paths import Paths


def create(
    paths: Paths, name: str, members: Sequence[str], *, amend: bool = False, verify_tls: bool = True
) -> str:
    """Make a manifest list of images in registries; its canonical name."""
    recovery.open_store(paths)
    listed = _name(name)
    with _registries(verify_tls, "pull") as connect:
        parsed = [reference.parse(member) for member in members]
        manifest_lists.create(paths, listed, parsed, connect, amend=amend)
    return listed.canonical


def annotate(paths: Paths, name: str, member: str, changes: dict[str, Any]) -> None:
    """Change what platform an entry of a list is for."""
    recovery.open_store(paths)
    manifest_lists.annotate(paths, _name(name), reference.parse(member), changes)


def push(
    paths: Paths,
    name: str,
    told: Callable[[str], None],
    *,
    purge: bool = False,
    verify_tls: bool = True,
) -> str:
    """Send a list to its registry, and with `purge` forget it here; its digest."""
    listed = _name(name)
    with _registries(verify_tls, "push") as connect:
        digest = manifest_lists.push(paths, listed, connect(listed), told)
    if purge:
        manifest_lists.remove(paths, listed)
    return digest


def remove(paths: Paths, name: str) -> None:
    """Forget a list."""
    manifest_lists.remove(paths, _name(name))


def inspect(paths: Paths, name: str, *, is_verbose: bool = False, verify_tls: bool = True) -> Any:
    """The document of a list that is made here, else of what the registry has under the name.

    With `is_verbose` each manifest with its descriptor and content, as docker words it.
    """
    wanted = reference.parse(name)
    made = manifest_lists.find(paths, wanted)
    if made is not None:
        if not is_verbose:
            return manifest_lists.index(made)
        entries = made["entries"]
        return [_verbose(e["reference"], e["descriptor"], e["body"].encode()) for e in entries]
    with _registries(verify_tls, "inspect") as connect:
        registry = connect(wanted)
        top = registry.manifest(wanted.digest or wanted.tag)
        parsed = manifest_lists.describe(top, wanted.familiar)
        if not is_verbose:
            return parsed
        if image.kind(parsed, wanted.familiar, top.media_type) == image.MANIFEST:
            descriptor = {
                "mediaType": parsed.get("mediaType") or top.media_type,
                "digest": str(top.digest),
                "size": len(top.body),
            }
            return _verbose(wanted.canonical, descriptor, top.body)
        children = image.check_index(parsed, wanted.familiar)["manifests"]
        return [
            _verbose(
                f"{wanted.repository}@{each['digest']}",
                dict(each),
                registry.manifest(each["digest"]).body,
            )
            for each in children
        ]


def _verbose(name: str, descriptor: dict[str, Any], body: bytes) -> dict[str, Any]:
    is_oci = descriptor["mediaType"] == image.MANIFEST
    return {
        "Ref": name,
        "Descriptor": descriptor,
        "OCIManifest" if is_oci else "SchemaV2Manifest": document.load_strict(body, name),
    }


def _name(text: str) -> Reference:
    parsed = reference.parse(text)
    if parsed.digest:
        raise Invalid(f"cannot use {text} for a manifest list: it is a digest", hint="name a tag")
    return parsed


@contextmanager
def _registries(verify_tls: bool, verb: str) -> Iterator[Callable[[Reference], Registry]]:
    """A function that connects to the repository of a reference, once for each."""
    made: dict[str, Registry] = {}

    def connect(name: Reference) -> Registry:
        if name.repository not in made:
            made[name.repository] = Registry(
                name.domain, name.path, verify_tls=verify_tls, verb=verb
            )
        return made[name.repository]

    try:
        yield connect
    finally:
        for registry in made.values():
            registry.close()
