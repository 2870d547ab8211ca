# SPDX-License-Identifier: Apache-2.0
"""Removing images: by name as docker's `rmi` does, and all that nobody needs (`image prune`).

Who uses an image is looked at while no container can begin (`records.removing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.engine import containers
from rootless.errors import Conflict, Invalid, NotFound, RootlessError
from rootless.images import garbage, records, recovery
from rootless.oci import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.paths import Paths
    from rootless.storage.staging import Mark

    Event = dict[str, str]


def remove(paths: Paths, name: str, *, force: bool = False) -> list[Event]:
    """Untag an image and, with its last reference, delete it, as docker does.

    Returns what happened in order: {"Untagged": reference} and {"Deleted": id}. Raises NotFound,
    and Conflict for an image with other names when it is given by id, or that a container uses.
    `force` removes all names; an image that a container uses stays without one. It also removes a
    name whose record is damaged.
    """
    recovery.settle(paths)
    try:
        record = records.get(paths, name)
    except Invalid:
        if not force:
            raise
        return _remove_damaged(paths, name)
    if record.get("host"):
        raise Conflict(
            "cannot remove image host: it is made of this machine's own userland",
            hint="it takes no room worth mentioning; nothing is to be done",
        )
    with garbage.content_dropped(paths) as mark, records.removing(paths):
        return _remove(paths, record, name, mark, force=force)


def _remove(
    paths: Paths, record: dict[str, Any], name: str, mark: Mark, *, force: bool
) -> list[Event]:
    names = _names_of(paths, record)
    doomed = _doomed(name, record, names, force=force)
    is_last = set(doomed) == set(names)
    users = [c for c in containers.list(paths) if c.image_id == record["id"]] if is_last else []
    if users:
        _check_users(name, users, force=force)
    if is_last and not users:
        mark.note(record["id"])
    events = _untag(paths, doomed)
    if is_last and not users:
        records.delete(paths, record["id"])
        events.append({"Deleted": record["id"]})
    return events


def _names_of(paths: Paths, record: dict[str, Any]) -> list[str]:
    return [e["reference"] for e in records.list_references(paths) if e["image"] == record["id"]]


def _untag(paths: Paths, doomed: list[str]) -> list[Event]:
    events = []
    for canonical in doomed:
        try:
            records.untag(paths, canonical)
        except NotFound:
            continue  # another removal was quicker
        events.append({"Untagged": reference.parse(canonical).familiar})
    return events


def _remove_damaged(paths: Paths, name: str) -> list[Event]:
    """Take away a name that leads to a record nobody can read, and that record."""
    canonical = reference.parse(name).canonical
    with garbage.content_dropped(paths):
        try:
            found = records.find_reference(paths, canonical)
        except Invalid:
            found = None
        events = _untag(paths, [canonical])
        if found is not None and not _names_of(paths, {"id": found["image"]}):
            records.delete(paths, found["image"])
            events.append({"Deleted": found["image"]})
    return events


def prune(
    paths: Paths, *, every: bool = False, fits: Callable[[dict[str, Any]], bool] | None = None
) -> list[Event]:
    """Delete the images without a name that no container uses, or `every` image none uses.

    Only those whose record `fits`. Returns what happened, as `remove` does.
    """
    recovery.settle(paths)
    events: list[Event] = []
    with garbage.content_dropped(paths) as mark, records.removing(paths):
        used = {container.image_id for container in containers.list(paths)}
        named = {entry["image"] for entry in records.list_references(paths)}
        for record in records.list_images(paths):
            is_wanted = record["id"] in used or (not every and record["id"] in named)
            if is_wanted or (fits is not None and not fits(record)):
                continue
            mark.note(record["id"])
            events += _untag(paths, _names_of(paths, record))
            records.delete(paths, record["id"])
            events.append({"Deleted": record["id"]})
    return events


def _doomed(name: str, record: dict[str, Any], names: list[str], *, force: bool) -> list[str]:
    """The references to remove: the one that was named, or all of an image named by its id."""
    try:
        named = reference.parse(name).canonical
    except RootlessError:
        named = ""
    if named in names:
        return [named]
    repositories = {reference.parse(each).repository for each in names}
    if len(repositories) > 1 and not force:
        raise Conflict(
            f"cannot delete image {name}: it is referenced in several repositories",
            hint=f"remove its names one by one, or all: rootless rmi -f {record['id'][7:19]}",
        )
    return names


def _check_users(name: str, users: list[containers.Container], *, force: bool) -> None:
    running = next((each for each in users if each.is_running), None)
    user = running or users[0]
    shown = user.name or user.id[:12]
    if running is not None:
        raise Conflict(
            f"cannot remove image {name}: container {shown} runs it",
            hint=f"rootless rm -f {shown}",
        )
    if not force:
        raise Conflict(
            f"cannot remove image {name}: container {shown} uses it",
            hint=f"rootless rm {shown}; or remove its names only: rootless rmi -f {name}",
        )
