# SPDX-License-Identifier: Apache-2.0
"""docker's `--filter KEY=VALUE`: several values of one key widen the choice, several keys narrow it."""

from __future__ import annotations

import fnmatch
import re
import time
from datetime import datetime

from rootless.errors import UsageError
from rootless.images import records
from rootless.oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from rootless.engine.containers import Container
    from rootless.engine.images import Listed
    from rootless.paths import Paths

    Test = Callable[[Any], bool]

_STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")


def parse(texts: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """{key: values} of `KEY=VALUE` texts; raises UsageError for a key that is not `known`."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"invalid filter {text!r}: not KEY=VALUE", hint=f"{key}=VALUE")
        if key not in known:
            raise UsageError(f"invalid filter '{key}'", hint=f"filter by {', '.join(known)}")
        found.setdefault(key, []).append(value.strip())
    return found


# -- containers ------------------------------------------------------------------------------------


def choose_containers(
    paths: Paths, found: Iterable[Container], filters: dict[str, list[str]]
) -> list[Container]:
    """The containers that pass every filter, in their order. Raises UsageError for a bad value."""
    tests = [_CONTAINER_TESTS[key](paths, values) for key, values in filters.items()]
    return [item for item in found if all(test(item) for test in tests)]


def _by_label(_paths: Paths, values: list[str]) -> Test:
    return lambda item: has_labels(item.labels, values)


def _by_id(_paths: Paths, values: list[str]) -> Test:
    patterns = [_pattern("id", value) for value in values]
    return lambda item: any(pattern.search(item.id) for pattern in patterns)


def _by_name(_paths: Paths, values: list[str]) -> Test:
    patterns = [_pattern("name", value.removeprefix("/")) for value in values]
    return lambda item: any(pattern.search(item.name) for pattern in patterns)


def _by_status(_paths: Paths, values: list[str]) -> Test:
    for value in values:
        if value not in _STATUSES:
            raise UsageError(
                f"invalid filter 'status={value}'", hint=f"choose {', '.join(_STATUSES)}"
            )
    return lambda item: item.status in values


def _by_exit_code(_paths: Paths, values: list[str]) -> Test:
    codes = [_exit_code(value) for value in values]
    return lambda item: item.status == "exited" and item.exit_code in codes


def _by_ancestor(_paths: Paths, values: list[str]) -> Test:
    return lambda item: any(_descends(item, value) for value in values)


def _before(paths: Paths, values: list[str]) -> Test:
    from rootless.engine import containers

    limit = min(containers.get(paths, value).created for value in values)
    return lambda item: item.created < limit


def _since(paths: Paths, values: list[str]) -> Test:
    from rootless.engine import containers

    limit = max(containers.get(paths, value).created for value in values)
    return lambda item: item.created > limit


_CONTAINER_TESTS: dict[str, Callable[[Paths, list[str]], Test]] = {
    "ancestor": _by_ancestor,
    "before": _before,
    "exited": _by_exit_code,
    "id": _by_id,
    "label": _by_label,
    "name": _by_name,
    "since": _since,
    "status": _by_status,
}
CONTAINER_KEYS = tuple(_CONTAINER_TESTS)


def _pattern(key: str, value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as problem:
        raise UsageError(f"invalid filter '{key}={value}': {problem}") from None


def _exit_code(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"invalid filter 'exited={value}': not a number") from None


def _descends(item: Container, value: str) -> bool:
    """Whether the container was made of the image `value`: as it was typed, without tag, or by id."""
    typed = item.image
    has_tag = ":" in typed.rpartition("/")[2]
    repository = typed.rpartition(":")[0] if has_tag else typed
    encoded = item.image_id.removeprefix("sha256:")
    prefix = value.removeprefix("sha256:")
    by_id = len(prefix) >= 2 and encoded.startswith(prefix)
    tagged = typed if has_tag else typed + ":latest"
    return value in (typed, repository, tagged) or by_id


def has_labels(labels: dict[str, str], wanted: Iterable[str]) -> bool:
    """Whether every `KEY` or `KEY=VALUE` is among `labels`."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


# -- images ----------------------------------------------------------------------------------------

IMAGE_KEYS = ("before", "dangling", "label", "reference", "since", "until")


def choose_images(
    paths: Paths, found: Iterable[Listed], filters: dict[str, list[str]]
) -> list[Listed]:
    """The rows of images that pass every filter, in their order. Raises UsageError for a bad value."""
    tests = [_image_test(paths, key, values) for key, values in filters.items()]
    return [row for row in found if all(test(row) for test in tests)]


def _image_test(paths: Paths, key: str, values: list[str]) -> Test:
    if key == "label":
        return lambda row: has_labels(row.record["config"].get("Labels") or {}, values)
    if key == "reference":
        return lambda row: any(_refers(row, value) for value in values)
    if key == "dangling":
        wanted = boolean(key, values[-1])
        return lambda row: wanted is (not row.reference)
    if key == "until":
        limit = min(moment(value) for value in values)
        return lambda row: (created := rfc3339(row.created)) is not None and created < limit
    times = [records.get(paths, value)["created"] for value in values]
    if key == "before":
        return lambda row: row.created < min(times)
    return lambda row: row.created > max(times)


def rfc3339(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, or None for a time that is not said."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def moment(text: str) -> float:
    """Seconds since 1970 of what docker takes after `until=`: 24h, 1h30m, 1700000000, 2024-01-31.

    A span is one before now; a time without a zone is local. Raises UsageError.
    """
    if re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+", text):
        spans = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
        return time.time() - sum(float(count) * _SECONDS[unit] for count, unit in spans)
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    found = rfc3339(text)
    if found is None:
        raise UsageError(
            f"invalid filter 'until={text}': neither a span nor a time",
            hint="give until=24h, until=2024-01-31 or until=2024-01-31T12:00:00",
        )
    return found


_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def boolean(key: str, value: str) -> bool:
    """The value of a filter that is true or false; raises UsageError."""
    if value.lower() not in ("true", "1", "false", "0"):
        raise UsageError(f"invalid filter '{key}={value}'", hint="choose true or false")
    return value.lower() in ("true", "1")


def _refers(row: Listed, pattern: str) -> bool:
    """Whether a reference fits a shell pattern, with or without its tag, short or in full.

    As in docker `*` stops at a `/`, so that `debian*` is not `debian/tools`.
    """
    if not row.reference:
        return False
    name = reference.parse(row.reference)
    spelled = (name.familiar, name.familiar_repository, name.canonical, name.repository)
    return any(
        text.count("/") == pattern.count("/") and fnmatch.fnmatchcase(text, pattern)
        for text in spelled
    )
