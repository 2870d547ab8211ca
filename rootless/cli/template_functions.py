# SPDX-License-Identifier: Apache-2.0
"""The functions of Go's text/template and those docker adds, and how Go prints a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Missing:
    """A key that a map has not: false and empty, and printed as `<no value>`."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def format_value(value: Any) -> str:
    """A value as Go's fmt prints it with %v: `[a b]`, `map[k:v]`, `true`, `<no value>`."""
    if value is None or value is MISSING:
        return "<no value>"
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None or value is MISSING:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.17g}" if value != int(value) else str(int(value))
    if isinstance(value, Mapping):
        inside = " ".join(f"{key}:{_plain(item)}" for key, item in sorted(_data(value).items()))
        return f"map[{inside}]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + " ".join(_plain(item) for item in value) + "]"
    return str(value)


def to_json(value: Any) -> str:
    """Compact JSON; the methods among the fields of a row are left out."""
    return json.dumps(_data(value), ensure_ascii=False, separators=(",", ":"))


def quoted(text: str) -> str:
    """A string in double quotes, with Go's escapes."""
    return json.dumps(text, ensure_ascii=False)


def _data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _data(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_data(item) for item in value]
    return None if value is MISSING else value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(key, int) and not 0 <= key < len(value):
            raise LookupError(f"index out of range: {key}")
        else:
            value = value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start, stop = (*bounds, None, None)[:2] if bounds else (0, None)
    return value[start:stop]


def _join(items: Sequence[Any] | None, separator: str) -> str:
    return separator.join(_plain(item) for item in items or ())


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _title(text: str) -> str:
    """The first letter of each word in capitals, the others as they are (Go's strings.Title)."""
    return re.sub(r"(?<![\w'])\w", lambda found: found[0].upper(), text)


def _print(*values: Any) -> str:
    """Go's fmt.Sprint: a space between operands when neither is a string."""
    out = ""
    for index, value in enumerate(values):
        both = index and not isinstance(value, str) and not isinstance(values[index - 1], str)
        out += (" " if both else "") + _plain(value)
    return out


def _println(*values: Any) -> str:
    return " ".join(_plain(value) for value in values) + "\n"


_VERB = re.compile(r"%([-+ 0#]*)(\d*)(\.\d+)?([a-zA-Z%])")


def _printf(form: str, *values: Any) -> str:
    """Go's verbs v s q d f g e x X o b c t; what Python spells the same goes to Python."""
    rest = list(values)

    def replaced(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "vt":
            value, verb = _plain(value), "s"
        elif verb == "q":
            value, verb = quoted(value), "s"
        elif verb == "s":
            value = _plain(value)
        elif verb == "b":
            value, verb = f"{value:b}", "s"
        elif verb == "x" and isinstance(value, str):
            value, verb = value.encode().hex(), "s"
        return str(f"%{flags}{width}{precision or ''}{verb}" % value)

    return _VERB.sub(replaced, form)


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _html(value: Any) -> str:
    from html import escape

    return escape(_plain(value))


def _urlquery(value: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_plain(value))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "eq": _equal,
    "ge": lambda first, second: first >= second,
    "gt": lambda first, second: first > second,
    "html": _html,
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": lambda first, second: first <= second,
    "len": len,
    "lower": str.lower,
    "lt": lambda first, second: first < second,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "or": _or,
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "title": _title,
    "truncate": _truncate,
    "upper": str.upper,
    "urlquery": _urlquery,
}
