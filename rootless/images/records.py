# SPDX-License-Identifier: Apache-2.0
"""The store's memory of images: one JSON file an image, one JSON file a reference.

On the way to every container, so it imports nothing cold. It knows names and documents only:
bytes of layers and blobs belong to `rootless.storage`.

An image record (`images/<hex>.json`) holds
    id        "sha256:<hex>", the digest of the image's config
    created   RFC 3339 time, as the config says it, or ""
    platform  {"os", "architecture", "variant"?}
    config    the config's "config" object: Env, Cmd, Entrypoint, User, WorkingDir, Volumes, ...
    manifest  the descriptor of the manifest it came with
    layers    [{"digest", "media_type", "size", "diff_id"}], lowest first
    size      bytes of all layers, unpacked
A reference record (`refs/<quoted reference>`) holds
    reference the canonical reference; image the id it names
    digest    what the registry answered for it (of an index or a manifest), or ""
"""

from __future__ import annotations

import errno
import os

from rootless import log
from rootless.errors import Invalid, NotFound, UsageError
from rootless.oci import document, reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.paths import Paths
    from rootless.storage.locks import Lock

    Record = dict[str, Any]

HOST = "host"
_HEX = "0123456789abcdef"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NAME_ANNOTATION = "org.opencontainers.image.ref.name"


# -- looking up -------------------------------------------------------------------------------


def find(paths: Paths, text: str) -> Record | None:
    """The record of the image that `text` names, or None.

    `text` is a reference, an id with or without `sha256:`, a prefix of an id, or `host`, the image
    made of this machine's own userland. A reference wins over an id, as in docker. Raises
    UsageError when a prefix fits several images.
    """
    if text == HOST:
        from rootless.images import host

        return host.record(paths)
    if text.startswith("sha256:"):
        return _by_id(paths, text[7:])
    if _is_hex(text) and len(text) == 64:
        return _by_id(paths, text)
    try:
        parsed = reference.parse(text)
    except Invalid:
        return None
    return _by_reference(paths, parsed) or (_by_id(paths, text) if _is_hex(text) else None)


def get(paths: Paths, text: str) -> Record:
    """Like `find`, but an image that is not there raises NotFound."""
    record = find(paths, text)
    if record is None:
        raise NotFound(f"no such image: {text}", hint=f"rootless pull {text}")
    return record


def find_reference(paths: Paths, canonical: str) -> dict[str, str] | None:
    """The reference record of exactly that canonical reference, or None."""
    found = _load(paths.reference(canonical))
    if found is None:
        return None
    if not is_reference(found) or found["reference"] != canonical:
        raise damaged(paths.reference(canonical))
    return found


def undamaged(look_up: Callable[[], Any]) -> Any:
    """What a look-up finds, None where the record is damaged: for whoever is about to write it anew."""
    try:
        return look_up()
    except Invalid:
        return None


def list_references(paths: Paths) -> list[dict[str, str]]:
    """Every reference record, sorted by reference; a damaged one is left out, with a warning."""
    found = _readable(paths.references, is_reference)
    return sorted(found, key=lambda entry: str(entry["reference"]))


def list_images(paths: Paths) -> list[Record]:
    """Every image record, without the embedded image `host`; a damaged one is left out, with a warning."""
    return _readable(paths.images, is_image)


def are_readable(paths: Paths) -> bool:
    """True when no image record is damaged or missing: what they do not name is not needed then.

    Others may remove images meanwhile; a reference goes before the record it leads to.
    """
    for name in _names(paths.images):
        try:
            _image(f"{paths.images}/{name}")
        except Invalid:
            return False
    for entry in list_references(paths):
        if not os.path.exists(paths.image(entry["image"])):
            try:
                again = find_reference(paths, entry["reference"])
            except Invalid:
                return False
            if again == entry and not os.path.exists(paths.image(entry["image"])):
                return False
    return True


def is_used(paths: Paths, image_id: str) -> bool:
    """True when a container was made of the image, or one cannot say what it was made of."""
    for container_id in _names(paths.containers):
        try:
            found = document.load(paths.container_record(container_id))
            if found["image_id"] == image_id:
                return True
        except FileNotFoundError:
            continue  # never completed, or going
        except (Invalid, OSError, KeyError, TypeError):
            return True
    return False


def unchanging(paths: Paths) -> Lock:
    """A lock: while it is held, no image disappears that a container is being made of."""
    from rootless.storage.locks import Lock

    return Lock(paths.lock("store", "images"), shared=True)


def removing(paths: Paths) -> Lock:
    """A lock: while it is held, no container begins, so who uses an image can be told."""
    from rootless.storage.locks import Lock

    return Lock(paths.lock("store", "images"))


def is_image(found: object) -> bool:
    """True when a document has all that an image record must have."""
    return bool(
        isinstance(found, dict)
        and _has(
            found, created=str, platform=dict, config=dict, manifest=dict, layers=list, size=int
        )
        and _is_id(found.get("id"))
        and _has(found["platform"], os=str, architecture=str)
        and _is_id(found["manifest"].get("digest"))
        and all(
            isinstance(layer, dict)
            and _has(layer, media_type=str, size=int)
            and _is_id(layer.get("digest"))
            and _is_id(layer.get("diff_id"))
            for layer in found["layers"]
        )
    )


def is_reference(found: object) -> bool:
    """True when a document has all that a reference record must have."""
    if not isinstance(found, dict) or not _has(found, reference=str, image=str, digest=str):
        return False
    try:
        name: str = found["reference"]
        return reference.parse(name).canonical == name
    except Invalid:
        return False


def damaged(path: str) -> Invalid:
    """The error for a record that cannot be made sense of."""
    return Invalid(f"cannot read {path}: it is damaged", hint="rootless system check --repair")


def _by_reference(paths: Paths, wanted: reference.Reference) -> Record | None:
    entry = find_reference(paths, wanted.canonical)
    if entry is None and wanted.digest:
        # Pulled by tag and asked for by digest: the digest is known all the same.
        entry = next(
            (
                known
                for known in list_references(paths)
                if known["digest"] == wanted.digest
                and reference.parse(known["reference"]).repository == wanted.repository
            ),
            None,
        )
    return _image(paths.image(entry["image"])) if entry else None


def _by_id(paths: Paths, prefix: str) -> Record | None:
    if not _is_hex(prefix):
        return None
    if len(prefix) == 64:
        found = _image(paths.image("sha256:" + prefix))
        return found or _host_by_id(paths, prefix)
    matches = [name for name in _names(paths.images) if name.startswith(prefix)]
    if len(matches) > 1:
        raise UsageError(
            f"cannot tell which image is meant: {prefix} begins {len(matches)} image ids",
            hint="give more digits: rootless images --no-trunc",
        )
    return _image(f"{paths.images}/{matches[0]}") if matches else _host_by_id(paths, prefix)


def _host_by_id(paths: Paths, prefix: str) -> Record | None:
    from rootless.images import host

    known = host.current(paths)
    return known if known and known["id"].startswith("sha256:" + prefix) else None


# -- changing ---------------------------------------------------------------------------------


def save(paths: Paths, record: Record) -> None:
    """Make an image known: after this `find` sees it by id. Its content must be stored already."""
    _replace(paths, paths.image(record["id"]), document.dumps(record))


def delete(paths: Paths, image_id: str) -> None:
    """Forget an image; the caller has untagged it. Forgetting an unknown one is no error."""
    _unlink(paths.image(image_id), paths.images)


def tag(paths: Paths, canonical: str, image_id: str, digest: str = "") -> None:
    """Let a canonical reference name an image, whatever it named before."""
    entry = {"reference": canonical, "image": image_id, "digest": digest}
    _replace(paths, paths.reference(canonical), document.dumps(entry))
    write_index(paths)


def untag(paths: Paths, canonical: str) -> None:
    """Forget a reference; the image stays. Raises NotFound when it is not known."""
    if not _unlink(paths.reference(canonical), paths.references):
        raise NotFound(f"no such image: {canonical}", hint="rootless images")
    write_index(paths)


def write_index(paths: Paths) -> None:
    """Bring `index.json` in step, so that other tools can read the store as an OCI image layout.

    Derived, and read back only where a reference record is damaged. A crash before it, or a full
    disk, leaves a stale copy: `is_index_stale` tells, and the next command mends it.
    """
    from rootless.storage import locks

    try:
        with locks.Lock(paths.lock("store", "index")):
            _replace(paths, paths.index, document.dumps(index(paths)))
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.warning("index.stale", reason=problem.strerror)


def index(paths: Paths) -> dict[str, Any]:
    """What `index.json` should say."""
    manifests = []
    images = {record["id"]: record for record in list_images(paths)}
    for entry in list_references(paths):
        record = images.get(entry["image"])
        if record is not None:
            named = {NAME_ANNOTATION: entry["reference"]}
            manifests.append({**record["manifest"], "annotations": named})
    return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}


def is_index_stale(paths: Paths) -> bool:
    """True when references changed after `index.json` was written, or in the same tick of the clock."""
    try:
        changed = os.stat(paths.references).st_mtime_ns
    except FileNotFoundError:
        return False
    try:
        return os.stat(paths.index).st_mtime_ns <= changed
    except FileNotFoundError:
        return bool(_names(paths.references))


# -- files ------------------------------------------------------------------------------------


def _is_hex(text: str) -> bool:
    return bool(text) and not text.strip(_HEX)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _is_id(found: object) -> bool:
    """A digest; sha512 is one too, for what is not the id of an image."""
    if not isinstance(found, str):
        return False
    algorithm, _, encoded = found.partition(":")
    return (algorithm, len(encoded)) in (("sha256", 64), ("sha512", 128)) and _is_hex(encoded)


def _has(found: Record, **kinds: type) -> bool:
    return all(isinstance(found.get(key), kind) for key, kind in kinds.items())


def _load(path: str) -> Record | None:
    """The document of a record, None where there is none; raises Invalid for a damaged one."""
    try:
        found: Record = document.load(path)
    except FileNotFoundError:
        return None
    except (Invalid, OSError):
        raise damaged(path) from None
    return found


def _image(path: str) -> Record | None:
    found = _load(path)
    if found is not None and not is_image(found):
        raise damaged(path)
    return found


def _readable(directory: str, is_good: Callable[[object], bool]) -> list[Record]:
    good = []
    for name in _names(directory):
        try:
            found = _load(f"{directory}/{name}")
        except Invalid:
            found = {}
        if found is not None and not is_good(found):
            log.warning("record.damaged", path=f"{directory}/{name}")
        elif found is not None:
            good.append(found)
    return good


def _replace(paths: Paths, path: str, data: bytes) -> None:
    from rootless.storage import staging

    staging.replace_file(paths, path, data)


def _unlink(path: str, directory: str) -> bool:
    from rootless.storage import staging

    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    staging.sync_directory(directory)
    return True
