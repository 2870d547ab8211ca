# SPDX-License-Identifier: Apache-2.0
"""Image records, references and `index.json`: readable, true to the documents they come from, leading somewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rootless.engine.check.fault import Fault, Inspection, names
from rootless.engine.check.layout import remove_entry
from rootless.errors import Invalid, RootlessError
from rootless.images import rebuild, records
from rootless.oci import document, reference

if TYPE_CHECKING:
    from rootless.paths import Paths

_HEX = frozenset("0123456789abcdef")
_UNREADABLE = "unreadable"
_INCOMPLETE = "damaged: fields are missing or wrong"


# -- records --------------------------------------------------------------------------------------


def check_records(inspection: Inspection) -> Iterator[Fault]:
    """Every image record, and one for every image that a reference names."""
    paths = inspection.paths
    for name in names(paths.images):
        encoded, _, suffix = name.partition(".")
        path = f"{paths.images}/{name}"
        if len(encoded) != 64 or not _HEX.issuperset(encoded) or suffix != "json":
            yield Fault("file", f"images/{name}", "unknown", partial(remove_entry, path))
            continue
        yield from _check_record(paths, f"sha256:{encoded}", path)
    named = {entry["image"] for entry in records.list_references(paths)}
    for image_id in sorted(named):
        if not os.path.lexists(paths.image(image_id)):
            made = _made_again(paths, image_id)
            if made is not None:  # otherwise its references dangle
                mend = partial(records.save, paths, made)
                yield Fault("image", _short(image_id), "its record is missing", mend)


def _check_record(paths: Paths, image_id: str, path: str) -> Iterator[Fault]:
    known, problem = _read(path)
    if problem == _UNREADABLE:
        yield Fault("image", _short(image_id), problem, partial(os.chmod, path, 0o600))
        known, problem = _read(path)
        if problem == _UNREADABLE:
            return
    if known is not None:
        problem = _wrong_image(known, image_id)
        known = None if problem else known
    made = _made_again(paths, image_id, known["manifest"]["digest"] if known else "")
    if known is not None:
        if made is not None and not rebuild.agrees(known, made):
            made["size"] = made["size"] or known["size"]
            mend = partial(records.save, paths, made)
            yield Fault("image", _short(image_id), "its record is not what its config says", mend)
        return
    if made is not None:
        yield Fault("image", _short(image_id), problem, partial(_replace, paths, path, made))
    else:
        hint = "pull or load the image again"
        mend = partial(remove_entry, path)
        yield Fault("image", _short(image_id), f"{problem}; and beyond repair", mend, hint)


def _wrong_image(known: dict[str, Any], image_id: str) -> str:
    if not records.is_image(known):
        return _INCOMPLETE
    return "" if known["id"] == image_id else f"damaged: it is about {_short(known['id'])}"


def _read(path: str) -> tuple[dict[str, Any] | None, str]:
    """(the document, "") or (None, what is wrong)."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None, "damaged: not a file"
        return document.load(path), ""
    except PermissionError:
        return None, _UNREADABLE
    except (Invalid, OSError):
        return None, "damaged: not JSON"


def _made_again(paths: Paths, image_id: str, manifest: str = "") -> dict[str, Any] | None:
    try:
        return rebuild.record(paths, image_id, manifest)
    except (RootlessError, OSError):
        return None


def _replace(paths: Paths, path: str, made: dict[str, Any]) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        remove_entry(path)
    records.save(paths, made)


def _short(image_id: str) -> str:
    return image_id[7:19]


# -- references -----------------------------------------------------------------------------------


def check_references(inspection: Inspection) -> Iterator[Fault]:
    """Every reference: its file's name, its fields, and the image it leads to."""
    paths = inspection.paths
    for name in names(paths.references):
        path = f"{paths.references}/{name}"
        canonical = _canonical(unquote(name))
        if not canonical or os.path.basename(paths.reference(canonical)) != name:
            yield Fault("file", f"refs/{name}", "unknown", partial(remove_entry, path))
            continue
        entry, problem = _read(path)
        if problem == _UNREADABLE:
            yield Fault("reference", canonical, problem, partial(os.chmod, path, 0o600))
            entry, problem = _read(path)
            if problem == _UNREADABLE:
                continue
        if entry is not None:
            problem = _wrong_reference(entry, canonical)
            entry = None if problem else entry
        if entry is None:
            yield _damaged(paths, canonical, path, problem)
        elif _dangles(inspection, entry["image"]):
            mend = partial(records.untag, paths, canonical)
            hint = f"rootless pull {canonical}"
            yield Fault("reference", canonical, "its image is not here", mend, hint)


def _wrong_reference(entry: dict[str, Any], canonical: str) -> str:
    if not records.is_reference(entry):
        return _INCOMPLETE
    return "" if entry["reference"] == canonical else f"damaged: it is about {entry['reference']}"


def _dangles(inspection: Inspection, image_id: str) -> bool:
    """True when there is no such image, and none can be made of its documents."""
    if os.path.lexists(inspection.paths.image(image_id)):
        return False
    return inspection.repair or _made_again(inspection.paths, image_id) is None


def _damaged(paths: Paths, canonical: str, path: str, problem: str) -> Fault:
    """A damaged reference; what it named is told by index.json, if by anything."""
    image_id = rebuild.image_by_index(paths, canonical)
    if not image_id or not os.path.lexists(paths.image(image_id)):
        mend = partial(remove_entry, path)
        return Fault("reference", canonical, problem, mend, f"rootless pull {canonical}")

    def replace() -> None:
        remove_entry(path)
        records.tag(paths, canonical, image_id)

    return Fault("reference", canonical, problem, replace)


def _canonical(text: str) -> str:
    try:
        return reference.parse(text).canonical
    except Invalid:
        return ""


# -- the index --------------------------------------------------------------------------------------


def check_index(inspection: Inspection) -> Iterator[Fault]:
    """`index.json` says what the references say."""
    paths = inspection.paths
    found, problem = _read(paths.index)
    if problem == _UNREADABLE:
        yield Fault("index", "index.json", problem, partial(os.chmod, paths.index, 0o600))
        found, problem = _read(paths.index)
    expected = records.index(paths)
    if found == expected or (not os.path.lexists(paths.index) and not expected["manifests"]):
        return
    if not os.path.lexists(paths.index):
        problem = "missing"

    def replace() -> None:
        if os.path.lexists(paths.index) and not os.path.isfile(paths.index):
            remove_entry(paths.index)
        records.write_index(paths)

    yield Fault("index", "index.json", problem or "not what the references say", replace)
