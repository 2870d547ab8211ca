# SPDX-License-Identifier: Apache-2.0
"""Containers and their names: a record that can be read, an image that is there, one name for one container."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rootless.engine import containers as known_containers
from rootless.engine import sweep
from rootless.engine.check.fault import Fault, Inspection, names
from rootless.engine.check.layout import remove_entry
from rootless.errors import Conflict, Invalid
from rootless.images import records
from rootless.oci import document
from rootless.runtime import state
from rootless.storage import locks, staging

if TYPE_CHECKING:
    from rootless.paths import Paths

_HEX = frozenset("0123456789abcdef")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "name": str,
    "created": (int, float),
    "image": str,
    "image_id": str,
    "command": list,
    "driver": str,
    "labels": dict,
    "annotations": dict,
}


def check(inspection: Inspection) -> Iterator[Fault]:
    """Every container that nobody is at work on."""
    paths = inspection.paths
    images = {record["id"] for record in inspection.records()}
    for container_id in names(paths.containers):
        path = paths.container(container_id)
        if len(container_id) != 64 or not _HEX.issuperset(container_id) or not os.path.isdir(path):
            mend = partial(remove_entry, path)
            yield Fault("file", f"containers/{container_id}", "unknown", mend)
        elif _is_at_rest(paths, container_id):
            yield from _check_one(paths, container_id, images)


def _is_at_rest(paths: Paths, container_id: str) -> bool:
    if state.is_alive(state.load(paths.state_directory(container_id))):
        return False
    try:
        fd = os.open(paths.container(container_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return locks.try_lock(fd)
    finally:
        os.close(fd)


def _check_one(paths: Paths, container_id: str, images: set[str]) -> Iterator[Fault]:
    shown = container_id[:12]
    path = paths.container_record(container_id)
    if not os.path.lexists(path):
        mend = partial(sweep.sweep, paths, [container_id])
        yield Fault("leftover", f"container {shown}", "never completed", mend)
        return
    if not os.access(path, os.R_OK):
        yield Fault("container", shown, "its record is unreadable", partial(os.chmod, path, 0o600))
    record = read(path)
    if record is None or record["id"] != container_id:
        made = partial(_rebuild, paths, container_id)
        yield Fault("container", shown, "its record is damaged", made, f"rootless rm {shown}")
        return
    if record.get("auto_remove"):
        mend = partial(sweep.sweep, paths, [container_id])
        yield Fault("leftover", f"container {shown}", "was to be removed at its end", mend)
        return
    yield from _check_rest(paths, record, images)


def _check_rest(paths: Paths, record: dict[str, Any], images: set[str]) -> Iterator[Fault]:
    shown = record["id"][:12]
    remove = f"rootless rm {shown}"
    image = record["image_id"]
    known = image in images or not image or records.find(paths, image) is not None
    if not known and record["driver"] not in ("directory", "copy"):
        hint = f"rootless pull {record['image']}, or {remove}"
        yield Fault("container", shown, f"its image {record['image']} is not here", None, hint)
    directory = paths.container(record["id"])
    try:
        good = isinstance(document.load(f"{directory}/config.json"), dict)
    except (Invalid, OSError):
        good = False
    if not good:
        yield Fault("container", shown, "config.json is missing or damaged", None, remove)
    needed = {"directory": (), "copy": ("rootfs",)}.get(record["driver"], ("upper", "work"))
    for name in needed:
        if not os.path.isdir(f"{directory}/{name}"):
            mend = partial(os.mkdir, f"{directory}/{name}", 0o755) if name == "work" else None
            yield Fault("container", shown, f"{name}/ is missing", mend, remove)
    name = record["name"]
    if name and not os.path.lexists(paths.name(name)):
        mend = partial(os.symlink, record["id"], paths.name(name))
        yield Fault("name", name, "missing", mend)


def read(path: str) -> dict[str, Any] | None:
    """A container's record, None when it is damaged."""
    try:
        found = document.load(path)
    except (Invalid, OSError):
        return None
    if not isinstance(found, dict):
        return None
    good = all(isinstance(found.get(key), kinds) for key, kinds in _KINDS.items())
    return found if good else None


def _rebuild(paths: Paths, container_id: str) -> None:
    """A record of what other files still tell: the container's writable layer is somebody's data."""
    directory = paths.container(container_id)
    try:
        config = document.load(f"{directory}/config.json")
        arguments = [str(each) for each in config["process"]["args"]]
        annotations = dict(config.get("annotations") or {})
    except (Invalid, OSError, KeyError, TypeError, ValueError):
        arguments, annotations = [], {}
    status = os.stat(directory)
    record = {
        "id": container_id,
        "name": _name_of(paths, container_id),
        "created": status.st_mtime,
        "image": "",
        "image_id": "",
        "command": arguments,
        "id_map": "",
        "driver": "copy" if os.path.isdir(f"{directory}/rootfs") else "overlay",
        "labels": {},
        "annotations": annotations,
        "auto_remove": False,
        "tty": False,
        "exit_code": 255,
        "started": None,
        "finished": status.st_mtime,
    }
    path = paths.container_record(container_id)
    if not stat.S_ISREG(os.lstat(path).st_mode):
        remove_entry(path)
    staging.replace_file(paths, path, document.dumps(record))


def _name_of(paths: Paths, container_id: str) -> str:
    for name in names(paths.names):
        if os.path.islink(paths.name(name)) and os.readlink(paths.name(name)) == container_id:
            return name
    return ""


# -- names ------------------------------------------------------------------------------------------


def check_names(inspection: Inspection) -> Iterator[Fault]:
    """Every name is a link that leads to the container that has it."""
    paths = inspection.paths
    owners = {item.name: item.id for item in known_containers.known(paths) if item.name}
    for name in names(paths.names):
        path = paths.name(name)
        drop = partial(_rename, paths, name, owners.get(name, ""))
        if not os.path.islink(path):
            yield Fault("name", name, "not a link", drop)
            continue
        target = os.readlink(path)
        if not os.path.isdir(paths.container(target)):
            yield Fault("name", name, "no container has it", drop)
        elif name in owners and owners[name] != target:
            yield Fault("name", name, f"leads to {target[:12]}, whose name is another", drop)
        elif name not in owners and _is_nameless(paths, target):
            yield Fault("name", name, f"not the name of {target[:12]}", drop)


def _is_nameless(paths: Paths, container_id: str) -> bool:
    """True for a container that is complete, and so would say if the name were its own."""
    complete = read(paths.container_record(container_id)) is not None
    return complete and _is_at_rest(paths, container_id)


def _rename(paths: Paths, name: str, owner: str) -> None:
    path = paths.name(name)
    if os.path.islink(path) and not owner:
        target = os.readlink(path)
        if os.path.isdir(paths.container(target)) and not _is_nameless(paths, target):
            raise Conflict("a container has begun to use it")
    remove_entry(path)
    if owner:
        os.symlink(owner, path)
