# SPDX-License-Identifier: Apache-2.0
"""Ids and names of containers: making them, claiming them, checking them. Hot."""

from __future__ import annotations

import os

from rootless.errors import Conflict, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.paths import Paths

_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ADJECTIVES = (
    "amber", "brave", "calm", "clever", "coral", "crisp", "eager", "early", "fair", "fleet",
    "fresh", "gentle", "glad", "golden", "green", "happy", "hardy", "honest", "keen", "kind",
    "light", "lively", "lucid", "lucky", "merry", "mild", "misty", "neat", "noble", "patient",
    "plain", "polite", "proud", "quick", "quiet", "ready", "rosy", "sandy", "sharp", "silent",
    "silver", "simple", "smart", "snowy", "solid", "sound", "steady", "still", "sunny", "swift",
    "tidy", "vivid", "warm", "wise", "witty", "young",
)  # fmt: skip
_NOUNS = (
    "acorn", "alder", "aspen", "badger", "beaver", "birch", "bison", "cedar", "clover", "cobble",
    "comet", "crane", "daisy", "dolphin", "ember", "falcon", "fern", "finch", "fjord", "fox",
    "glacier", "harbor", "hazel", "heron", "hill", "island", "juniper", "kestrel", "lagoon", "lark",
    "lichen", "lilac", "lynx", "maple", "marten", "meadow", "moss", "oak", "orchid", "osprey",
    "otter", "owl", "pebble", "pine", "plover", "poppy", "raven", "reef", "river", "robin",
    "rowan", "sparrow", "spruce", "thicket", "thistle", "tundra", "valley", "willow", "wren",
)  # fmt: skip


def new_id() -> str:
    """64 random hexadecimal digits, never all decimal ones in the first 12 (they would be a pid)."""
    while True:
        container_id = os.urandom(32).hex()
        if not container_id[:12].isdecimal():
            return container_id


def claim(paths: Paths, name: str, container_id: str) -> str:
    """Give `name`, or a name of our choice, to the container; atomic between processes.

    Returns the name. Raises UsageError for a bad name, Conflict for one that is taken.
    """
    if name:
        check(name)
        owner = _take(paths, name, container_id)
        if owner:
            raise Conflict(
                f"the container name {name} is already in use by container {owner[:12]}",
                hint=f"rootless rm {name}, or choose another --name",
            )
        return name
    for attempt in range(1000):
        random = os.urandom(3)
        chosen = _ADJECTIVES[random[0] % len(_ADJECTIVES)] + "_" + _NOUNS[random[1] % len(_NOUNS)]
        if attempt > 3:
            chosen += str(random[2])
        if not _take(paths, chosen, container_id):
            return chosen
    raise Conflict("found no free container name", hint="give one with --name")


def _take(paths: Paths, name: str, container_id: str) -> str:
    """Make the name's link; returns the id of the container that has it already, or ""."""
    try:
        os.symlink(container_id, paths.name(name))
    except FileExistsError:
        return _take_over(paths, name, container_id)
    return ""


def _take_over(paths: Paths, name: str, container_id: str) -> str:
    """Like `_take`, for a name whose container may be gone: its keeper was killed."""
    from rootless.storage.locks import Lock

    path = paths.name(name)
    # One at a time: nobody else replaces the link between the look at it and its removal.
    with Lock(paths.lock("names", "stale")):
        try:
            owner = os.readlink(path)
        except FileNotFoundError:
            owner = ""
        except OSError:  # no link at all: damage
            owner = "-"
        # A container's directory exists before its name does.
        if owner and os.path.isdir(paths.container(owner)):
            return owner
        if owner:
            os.unlink(path)
        try:
            os.symlink(container_id, path)
        except FileExistsError:
            return os.readlink(path)  # a new container was quicker
    return ""


def release(paths: Paths, name: str, container_id: str) -> None:
    """Give the name back, if it is still this container's."""
    try:
        if os.readlink(paths.name(name)) == container_id:
            os.unlink(paths.name(name))
    except OSError:
        pass  # gone, or no link at all: `system check` mends that


def check(name: str) -> None:
    """docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most 128 of them; raises UsageError."""
    rest = name[1:].translate({ord(character): None for character in "_.-"})
    valid = 2 <= len(name) <= 128 and name[0] in _ALPHANUMERIC and _ALPHANUMERIC.issuperset(rest)
    if not valid:
        raise UsageError(
            f"invalid container name: {name}",
            hint="use letters, digits, _ . and -, starting with a letter or a digit",
        )
