# SPDX-License-Identifier: Apache-2.0
"""Unpacked layers: there, described by their layer.json, and the trees that were unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from rootless.engine import containers
from rootless.engine.check.fault import Fault, Inspection, names
from rootless.engine.check.layout import remove_entry
from rootless.errors import Conflict, Invalid, RootlessError
from rootless.images import records
from rootless.oci import digest as digests
from rootless.oci import document
from rootless.runtime import idmap, userns
from rootless.storage import listing
from rootless.storage.blobs import Blobs
from rootless.storage.layers import Layers

if TYPE_CHECKING:
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap

_FIELDS = {"diff_id": str, "id_map": str, "size": int, "files": int, "entries": int}


def check(inspection: Inspection) -> Iterator[Fault]:
    """Every layer directory, and that each layer of an image is unpacked under some id map."""
    paths = inspection.paths
    wanted = {
        layer["diff_id"]: layer["digest"]
        for record in inspection.records()
        for layer in record["layers"]
    }
    seen: set[str] = set()
    for key in names(paths.layers):
        id_map = idmap.from_key(key)
        if id_map is None or not os.path.isdir(f"{paths.layers}/{key}"):
            path = f"{paths.layers}/{key}"
            if not os.path.isdir(path):
                yield Fault("file", f"layers/{key}", "unknown", partial(remove_entry, path))
            continue
        one = _Key(inspection, id_map, wanted)
        yield from one.check()
        seen.update(one.seen)
    for diff_id in sorted(wanted.keys() - seen):
        mend = partial(_unpack, paths, idmap.default(), diff_id, wanted[diff_id])
        yield Fault("layer", diff_id, "not unpacked", mend, "pull or load the image again")


class _Key:
    """The layers unpacked under one id map."""

    def __init__(self, inspection: Inspection, id_map: IdMap, wanted: dict[str, str]) -> None:
        self._inspection = inspection
        self._paths = inspection.paths
        self._id_map = id_map
        self._wanted = wanted
        self.seen: list[str] = []

    def check(self) -> Iterator[Fault]:
        layers = Layers(self._paths, self._id_map)
        known = layers.list()
        directory = f"{self._paths.layers}/{self._id_map.key}"
        encoded = {diff_id.partition(":")[2] for diff_id in known}
        for name in names(directory):
            if name not in encoded or not _is_hex(name):
                path = f"{directory}/{name}"
                shown = f"layers/{self._id_map.key}/{name}"
                yield Fault("file", shown, "unknown", partial(self._drop, path))
        good = [diff_id for diff_id in known if _is_hex(diff_id.partition(":")[2])]
        self.seen = good
        recorded: dict[str, str] = {}
        for diff_id in good:
            if diff_id not in self._wanted:
                continue  # nobody needs it whole
            problem, digest = self._read(diff_id)
            if problem:
                yield self._fault(diff_id, problem)
            elif digest:
                recorded[diff_id] = digest
        if not self._inspection.quick:
            yield from self._compare(recorded)

    def _read(self, diff_id: str) -> tuple[str, str]:
        """(what is wrong with layer.json or "", the recorded listing)."""
        path = self._paths.layer(self._id_map.key, diff_id)
        if not os.path.isdir(f"{path}/tree"):
            return "its tree is missing", ""
        try:
            found = document.load(f"{path}/layer.json")
        except FileNotFoundError:
            return "layer.json is missing", ""
        except (Invalid, OSError):
            return "layer.json is damaged", ""
        if not isinstance(found, dict) or not all(
            isinstance(found.get(name), kind) for name, kind in _FIELDS.items()
        ):
            return "layer.json is damaged: fields are missing or wrong", ""
        if (found["diff_id"], found["id_map"]) != (diff_id, self._id_map.key):
            return "layer.json is about another layer", ""
        return "", str(found.get("listing", ""))

    def _compare(self, recorded: dict[str, str]) -> Iterator[Fault]:
        """Read every tree and compare it with what it was when it was unpacked."""
        if not recorded:
            return
        try:
            found = _listings(self._paths, self._id_map, list(recorded))
        except (RootlessError, OSError) as failure:
            hint = "rootless doctor says what this machine restricts"
            yield Fault("layers", self._id_map.key, f"cannot be read: {failure}", None, hint)
            return
        for diff_id, digest in recorded.items():
            if found[diff_id] != digest:
                problem = "altered: its files are not the ones that were unpacked"
                if not found[diff_id].startswith("sha256:"):
                    problem = f"unreadable: {found[diff_id]}"
                yield self._fault(diff_id, problem)

    def _fault(self, diff_id: str, problem: str) -> Fault:
        mend = partial(self._rebuild, diff_id)
        return Fault("layer", diff_id, problem, mend, "pull or load the image again")

    def _rebuild(self, diff_id: str) -> None:
        digest = self._wanted[diff_id]
        _check_unused(self._paths, diff_id)
        with Blobs(self._paths).open(digest) as reader:  # whole, before the layer goes
            while reader.read():
                pass
        Layers(self._paths, self._id_map).remove(diff_id)
        _unpack(self._paths, self._id_map, diff_id, digest)

    def _drop(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            userns.remove_tree(self._id_map, path)
        else:
            os.unlink(path)


def _is_hex(name: str) -> bool:
    return not name.strip("0123456789abcdef")


def _listings(paths: Paths, id_map: IdMap, diff_ids: list[str]) -> dict[str, str]:
    """{diff id: listing of its tree as it is now, or what the kernel said}."""

    def work() -> bytes:
        found = {}
        for diff_id in diff_ids:
            try:
                tree = f"{paths.layer(id_map.key, diff_id)}/tree"
                fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    found[diff_id] = listing.digest(fd)
                finally:
                    os.close(fd)
            except OSError as problem:
                found[diff_id] = (problem.strerror or "").lower()
        return document.dumps(found)

    found: dict[str, str] = document.loads(userns.call(id_map, work))
    return found


def _unpack(paths: Paths, id_map: IdMap, diff_id: str, digest: str) -> None:
    layers = Layers(paths, id_map)
    with Blobs(paths).open(digest) as reader, layers.unpacker(digests.parse(diff_id)) as unpacker:
        while chunk := reader.read():
            unpacker.write(chunk)
        unpacker.finish()


def _check_unused(paths: Paths, diff_id: str) -> None:
    """Raise Conflict when a container that runs has the layer for its root."""
    users = {
        record["id"]
        for record in records.list_images(paths)
        if any(layer["diff_id"] == diff_id for layer in record["layers"])
    }
    for container in containers.known(paths):
        if container.is_running and container.image_id in users:
            shown = container.name or container.id[:12]
            raise Conflict(f"container {shown} runs on it", hint=f"rootless rm -f {shown}")
