# SPDX-License-Identifier: Apache-2.0
"""Removing all that nothing uses: stopped containers, images without a name, abandoned downloads.

Everything is looked at again, under its lock, right before it goes, so other commands may be at work.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rootless.engine import containers, filters, removal, usage
from rootless.errors import Conflict, UsageError
from rootless.storage import partial

if TYPE_CHECKING:
    from rootless.paths import Paths

    Fits = Callable[[float, dict[str, str]], bool]

FILTERS = ("until", "label", "label!")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


@dataclass
class Pruned:
    """What went: ids of containers, events of images as `removal.remove` tells them, bytes."""

    containers: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    reclaimed: int = 0


def prune_containers(paths: Paths, texts: Iterable[str] = ()) -> Pruned:
    """Remove every container that does not run; raises UsageError for a bad filter."""
    fits = chosen(texts)
    return _measured(paths, lambda pruned: _containers(paths, fits, pruned))


def prune_images(paths: Paths, texts: Iterable[str] = (), *, every: bool = False) -> Pruned:
    """Remove images without a name, or with `every` all images, that no container uses."""
    fits = chosen(texts)
    return _measured(paths, lambda pruned: _images(paths, fits, pruned, every=every))


def prune_system(paths: Paths, texts: Iterable[str] = (), *, every: bool = False) -> Pruned:
    """Containers first, then the images they no longer use; without filters also kept downloads."""
    texts = tuple(texts)
    fits = chosen(texts)

    def work(pruned: Pruned) -> None:
        if not texts:
            partial.sweep(paths, every=True)
        _containers(paths, fits, pruned)
        _images(paths, fits, pruned, every=every)

    return _measured(paths, work)


def _measured(paths: Paths, work: Callable[[Pruned], None]) -> Pruned:
    pruned = Pruned()
    before = usage.total(paths)
    work(pruned)
    pruned.reclaimed = max(0, before - usage.total(paths))
    return pruned


def _containers(paths: Paths, fits: Fits, pruned: Pruned) -> None:
    for container in containers.list(paths):
        if container.is_running or not fits(container.created, container.labels):
            continue
        try:
            containers.remove(paths, container)
        except Conflict:
            continue  # it begins to run, or somebody else removes it
        pruned.containers.append(container.id)


def _images(paths: Paths, fits: Fits, pruned: Pruned, *, every: bool) -> None:
    def is_fit(record: dict[str, Any]) -> bool:
        return fits(_epoch(record["created"]), record["config"].get("Labels") or {})

    pruned.images += removal.prune(paths, every=every, fits=is_fit)


def _epoch(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0  # an image that does not say is old


# -- filters ----------------------------------------------------------------------------------------


def chosen(texts: Iterable[str]) -> Fits:
    """A test of (created, labels) for docker's prune filters until=, label= and label!=.

    Several labels must all fit. Raises UsageError for anything else.
    """
    found = filters.parse(texts, FILTERS)
    limits = [_until(value) for value in found.get("until", ())]
    wanted, unwanted = found.get("label", ()), found.get("label!", ())

    def fits(created: float, labels: dict[str, str]) -> bool:
        return (
            all(created < limit for limit in limits)
            and filters.has_labels(labels, wanted)
            and not any(filters.has_labels(labels, (each,)) for each in unwanted)
        )

    return fits


def _until(value: str) -> float:
    """Seconds since 1970: a Unix time, an RFC 3339 time or date, or a Go duration before now."""
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return time.time() - sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(
            f"invalid filter 'until={value}': neither a time nor a duration",
            hint="such as until=24h, until=2025-01-31 or until=2025-01-31T12:00:00Z",
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC).astimezone(UTC)).timestamp()
