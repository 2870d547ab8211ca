# SPDX-License-Identifier: Apache-2.0
"""Blobs: named by a digest, readable, of the right size, and with the bytes their digest promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rootless.engine.check.fault import Fault, Inspection, names
from rootless.engine.check.layout import remove_entry
from rootless.errors import Invalid, NotFound, RootlessError
from rootless.images import refetch
from rootless.oci import digest as digests
from rootless.storage.blobs import Blobs

if TYPE_CHECKING:
    from rootless.oci.digest import Digest

_HINT = "rootless pull {} brings it back"


def check(inspection: Inspection) -> Iterator[Fault]:
    """Every file among the blobs; what is damaged is dropped, and fetched again where that can be done."""
    paths = inspection.paths
    sizes = _promised_sizes(inspection)
    for algorithm in names(paths.blobs):
        directory = f"{paths.blobs}/{algorithm}"
        if algorithm not in digests.HEX_LENGTHS or not os.path.isdir(directory):
            yield Fault("file", f"blobs/{algorithm}", "unknown", partial(remove_entry, directory))
            continue
        for name in names(directory):
            path = f"{directory}/{name}"
            try:
                digest = digests.parse(f"{algorithm}:{name}")
            except Invalid:
                yield Fault(
                    "file", f"blobs/{algorithm}/{name}", "unknown", partial(remove_entry, path)
                )
                continue
            yield from _check_one(inspection, digest, path, sizes.get(digest))


def _check_one(
    inspection: Inspection, digest: Digest, path: str, size: int | None
) -> Iterator[Fault]:
    status = os.lstat(path)
    drop = partial(remove_entry, path)
    if not stat.S_ISREG(status.st_mode):
        yield Fault("blob", digest, "not a file", drop)
        return
    if not os.access(path, os.R_OK):
        yield Fault("blob", digest, "unreadable", partial(os.chmod, path, 0o600))
        if not inspection.repair:
            return
    if size is not None and status.st_size != size:
        inspection.bad_blobs.add(digest)
        word = "truncated" if status.st_size < size else "too long"
        yield Fault("blob", digest, f"{word}: {status.st_size} bytes, not {size}", drop)
    elif not inspection.quick and not _is_good(inspection, digest):
        inspection.bad_blobs.add(digest)
        yield Fault("blob", digest, "altered: its bytes have another digest", drop)


def _is_good(inspection: Inspection, digest: Digest) -> bool:
    try:
        with Blobs(inspection.paths).open(digest) as reader:
            while reader.read():
                pass
    except (RootlessError, OSError):
        return False
    return True


def _promised_sizes(inspection: Inspection) -> dict[str, int]:
    return {digest: size for record in inspection.records() for digest, size, _ in parts(record)}


def parts(record: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(digest, size, what it is) of the blobs of an image whose size the record tells."""
    found = [(record["manifest"]["digest"], record["manifest"].get("size", -1), "manifest")]
    found += [(layer["digest"], layer["size"], "layer") for layer in record["layers"]]
    return [(digest, size, what) for digest, size, what in found if isinstance(size, int)]


def check_presence(inspection: Inspection) -> Iterator[Fault]:
    """Every blob an image has; one that is missing is fetched from where the image came from."""
    paths = inspection.paths
    blobs = Blobs(paths)
    for record in inspection.records():
        wanted = [*parts(record), (record["id"], -1, "config")]
        for digest, size, what in wanted:
            if blobs.has(digest):
                continue
            if digest in inspection.bad_blobs and not inspection.repair:
                continue  # told already
            mend = partial(_fetch, inspection, record, digest, size, what)
            name = refetch.name_of(paths, record)
            problem = f"missing: the {what} of image {record['id'][7:19]}"
            hint = _HINT.format(name) if name else f"rootless rmi {record['id'][7:19]}"
            yield Fault("blob", digest, problem, mend, hint)


def _fetch(
    inspection: Inspection, record: dict[str, Any], digest: str, size: int, what: str
) -> None:
    if not refetch.fetch(inspection.paths, record, digest, size, what):
        raise NotFound("it can be had nowhere")
    inspection.bad_blobs.discard(digest)
