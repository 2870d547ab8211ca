# SPDX-License-Identifier: Apache-2.0
"""JSON documents: our own records quickly, documents from outside strictly.

The C scanner and encoder of the standard library are called directly, because the Python half of
`json` imports `re`, which alone costs as much as half a container start.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 64
MAX_SIZE = 4 * 1024 * 1024  # what registries and clients agree on for manifests and configs
_SPACE = " \t\n\r"


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Fields whose spelling in another case some parsers take for the field itself.
_FOLDED = {
    "schemaversion",
    "mediatype",
    "config",
    "layers",
    "manifests",
    "fslayers",
    "digest",
    "size",
}


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with two readings is refused (CVE-2021-41190: parsers differ, so images differ)."""
    seen: set[str] = set()
    for key, _ in pairs:
        name = key.lower() if key.lower() in _FOLDED else key
        if name in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen.add(name)
    return dict(pairs)


class _Scanner:
    """What `_json.make_scanner` reads its settings from."""

    strict = True
    object_hook = None
    object_pairs_hook: Any = None
    array_hook: Any = None  # asked for by later Pythons
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_reject_constant)

    def __init__(self, object_pairs_hook: Any = None) -> None:
        self.object_pairs_hook = object_pairs_hook


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON form")


_scan: Any
_scan_strictly: Any
_encode: Any
try:
    from _json import encode_basestring, make_encoder, make_scanner

    _scan = make_scanner(_Scanner())  # type: ignore[arg-type]
    _scan_strictly = make_scanner(_Scanner(_reject_duplicates))  # type: ignore[arg-type]
    _encode = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
except (ImportError, TypeError, AttributeError):  # an interpreter without that accelerator
    import json

    _scan = json.JSONDecoder(parse_constant=_reject_constant).scan_once  # type: ignore[attr-defined]
    _scan_strictly = json.JSONDecoder(  # type: ignore[attr-defined]
        object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant
    ).scan_once
    _encode = json.JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_refuse
    ).iterencode


def loads(text: str | bytes, source: str = "document") -> Any:
    """The value of a JSON text that we wrote ourselves; raises Invalid naming `source`.

    Bytes that are no UTF-8 come back as `dumps` was given them: arguments and file names may hold any.
    """
    return _parse(_scan, text, source, "surrogateescape")


def load_strict(text: str | bytes, source: str, *, max_size: int = MAX_SIZE) -> Any:
    """The value of a JSON text from outside; `source` names it in errors.

    Refused with Invalid: more than `max_size` bytes, duplicate keys (also ones that differ in case
    only), NaN and infinities, nesting deeper than MAX_DEPTH, anything after the value.
    """
    if len(text) > max_size:
        raise Invalid(f"cannot read {source}: it is larger than {max_size} bytes")
    value = _parse(_scan_strictly, text, source, "strict")
    _check_depth(value, source)
    return value


def load(path: str) -> Any:
    """The value of one of our own JSON files; OSError when it cannot be read, Invalid when damaged."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, 1 << 18):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return loads(b"".join(chunks), path)


def dumps(value: object) -> bytes:
    """Compact JSON in UTF-8; insertion order is kept, NaN and unknown types raise."""
    return "".join(_encode(value, 0)).encode("utf-8", "surrogateescape")


def _parse(scan: Any, text: str | bytes, source: str, errors: str) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig" if text[:3] == b"\xef\xbb\xbf" else "utf-8", errors)
        text = text.strip(_SPACE)
        value, end = scan(text, 0)
    except StopIteration:
        raise Invalid(f"cannot read {source}: not JSON") from None
    except RecursionError:
        raise Invalid(f"cannot read {source}: nested too deeply") from None
    except SystemError:
        # The scanner can say what is wrong only once json.decoder has been imported, with its `re`.
        if "json.decoder" in sys.modules:
            raise
        __import__("json.decoder")
        return _parse(scan, text, source, errors)
    except ValueError as problem:
        raise Invalid(f"cannot read {source}: {problem}") from None
    if end != len(text):
        raise Invalid(f"cannot read {source}: something follows the JSON value at character {end}")
    return value


def _check_depth(value: Any, source: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise Invalid(f"cannot read {source}: nested deeper than {MAX_DEPTH} levels")
