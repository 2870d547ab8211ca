# SPDX-License-Identifier: Apache-2.0
"""What a configuration file may say, and reading it: every complaint names file, line and key.

The YAML parser makes no objects of its own choosing; size, depth and aliases are bounded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

import yaml

from rootless.errors import Invalid

MAX_SIZE = 1 << 20
MAX_NODES = 10_000  # visited, so that aliases of aliases count as what they stand for
MAX_ALIASES = 100
MAX_DEPTH = 16

Rule = Callable[["Reader", yaml.Node, str], Any]


def read(paths: list[str]) -> dict[str, Any]:
    """The settings of all files; where two say something about one thing, the later one counts."""
    found: dict[str, Any] = {}
    for path in paths:
        found = merged(found, Reader(path).read())
    return found


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced."""
    result = dict(below)
    for key, value in above.items():
        known = result.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        result[key] = merged(known, value) if both else value  # type: ignore[arg-type]
    return result


class Reader:
    """One file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._nodes = 0

    def read(self) -> dict[str, Any]:
        """Its settings, checked; raises Invalid."""
        text = self._text()
        try:
            aliases = sum(
                isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)
            )
            if aliases > MAX_ALIASES:
                raise Invalid(f"cannot read {self.path}: more than {MAX_ALIASES} aliases")
            node = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as problem:
            line = problem.problem_mark.line + 1 if problem.problem_mark else 1
            raise Invalid(f"{self.path}:{line}: not YAML: {problem.problem}") from None
        except (yaml.YAMLError, RecursionError, ValueError) as problem:
            raise Invalid(f"{self.path}:1: not YAML: {str(problem).splitlines()[0]}") from None
        if node is None or _is_null(node):
            return {}
        found: dict[str, Any] = _FILE(self, node, "")
        return found

    def _text(self) -> str:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            raise Invalid(f"cannot read {self.path}: {(problem.strerror or '').lower()}") from None
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Invalid(f"cannot read {self.path}: not a file")
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o002:
                raise Invalid(
                    f"cannot trust {self.path}: others may write to it",
                    hint=f"chmod go-w {self.path}; it must be yours or root's",
                )
            data = file.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            raise Invalid(f"cannot read {self.path}: larger than {MAX_SIZE} bytes")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Invalid(f"cannot read {self.path}: not UTF-8") from None

    def visit(self, node: yaml.Node, key: str) -> None:
        """Count; raises Invalid for what grows out of bounds."""
        self._nodes += 1
        if self._nodes > MAX_NODES or key.count(".") > MAX_DEPTH:
            raise self.wrong(node, key, "too much of it")

    def wrong(self, node: yaml.Node, key: str, what: str, hint: str = "") -> Invalid:
        """The complaint about one value."""
        line = node.start_mark.line + 1
        name = f" {key}:" if key else ""
        return Invalid(
            f"{self.path}:{line}:{name} {what}", hint=hint or "see docs/reference/configuration.md"
        )


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


# -- rules ------------------------------------------------------------------------------------------


def mapping(**members: Rule) -> Rule:
    """A mapping with these keys and no others; `_` in a name stands for `-`."""
    known = {name.replace("_", "-"): rule for name, rule in members.items()}

    def rule(reader: Reader, node: yaml.Node, key: str) -> dict[str, Any]:
        def member(name: str, child: yaml.Node) -> Rule:
            if name not in known:
                raise reader.wrong(
                    child, join(key, name), "no such setting", f"known here: {', '.join(known)}"
                )
            return known[name]

        return _walk(reader, node, key, member)

    return rule


def by_name(rule: Rule) -> Rule:
    """A mapping with any keys, whose values all follow one rule."""

    def each(reader: Reader, node: yaml.Node, key: str) -> dict[str, Any]:
        return _walk(reader, node, key, lambda _name, _child: rule)

    return each


def _walk(
    reader: Reader, node: yaml.Node, key: str, choose: Callable[[str, yaml.Node], Rule]
) -> dict[str, Any]:
    reader.visit(node, key)
    if _is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise reader.wrong(node, key, "expected a mapping: `name: value` lines")
    found: dict[str, Any] = {}
    for name_node, child in node.value:
        if not isinstance(name_node, yaml.ScalarNode):
            raise reader.wrong(name_node, key, "a key must be a word")
        name = str(name_node.value)
        if name in found:
            raise reader.wrong(name_node, join(key, name), "stands here twice")
        found[name] = choose(name, name_node)(reader, child, join(key, name))
    return found


def join(key: str, name: str) -> str:
    """The path of a member: `registries.hosts`."""
    return f"{key}.{name}" if key else name


def texts(rule: Rule) -> Rule:
    """A list, or a single one."""

    def each(reader: Reader, node: yaml.Node, key: str) -> list[Any]:
        reader.visit(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [rule(reader, child, key) for child in node.value]
        return [rule(reader, node, key)]

    return each


def text(reader: Reader, node: yaml.Node, key: str) -> str:
    """One line of text."""
    reader.visit(node, key)
    if not isinstance(node, yaml.ScalarNode) or _is_null(node) or not str(node.value).strip():
        raise reader.wrong(node, key, "expected a text")
    return str(node.value)


def path(reader: Reader, node: yaml.Node, key: str) -> str:
    """An absolute path; `~/` is the caller's home."""
    found = text(reader, node, key)
    found = os.path.expanduser(found) if found.startswith("~/") else found
    if not found.startswith("/"):
        raise reader.wrong(node, key, f"expected an absolute path, not {found!r}")
    return os.path.normpath(found)


def boolean(reader: Reader, node: yaml.Node, key: str) -> bool:
    """true or false."""
    found = text(reader, node, key)
    if node.tag != "tag:yaml.org,2002:bool" or found.lower() not in ("true", "false"):
        raise reader.wrong(node, key, f"expected true or false, not {found!r}")
    return found.lower() == "true"


def choice(*words: str) -> Rule:
    """One of some words."""

    def rule(reader: Reader, node: yaml.Node, key: str) -> str:
        found = text(reader, node, key)
        if found not in words:
            raise reader.wrong(node, key, f"expected {' or '.join(words)}, not {found!r}")
        return found

    return rule


def number(low: int, high: int) -> Rule:
    """A whole number; sizes may end in k, M, G or T (powers of 1024)."""

    def rule(reader: Reader, node: yaml.Node, key: str) -> int:
        found = text(reader, node, key).replace("_", "")
        factor = {"k": 10, "m": 20, "g": 30, "t": 40}.get(found[-1:].lower(), 0)
        digits = found[:-1] if factor else found
        if not digits.isascii() or not digits.isdecimal():
            raise reader.wrong(node, key, f"expected a number, not {found!r}")
        value = int(digits[:20]) << factor
        if not low <= value <= high:
            raise reader.wrong(node, key, f"expected {low} to {high}, not {value}")
        return value

    return rule


_MAX = 1 << 62
_HOST = mapping(
    mirrors=texts(text),
    insecure=boolean,
    blocked=boolean,
    ca=path,
    client_cert=path,
    client_key=path,
)
_FILE = mapping(
    storage=mapping(driver=choice("overlay", "fuse-overlayfs", "copy")),
    registries=mapping(default_domain=text, hosts=by_name(_HOST)),
    proxies=mapping(http=text, https=text, no=text),
    limits=mapping(
        entries=number(1, _MAX),
        bytes=number(1, _MAX),
        depth=number(1, 1024),
        manifest_size=number(1024, 4 << 20),
        idle_seconds=number(1, 86_400),
        keep_downloads_hours=number(0, 10_000),
    ),
)
