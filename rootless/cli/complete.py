# SPDX-License-Identifier: Apache-2.0
"""The hidden command behind the completion scripts: what may stand where the cursor is, one a line.

A line is a word, or a word, a tab and what it means; `:file` asks the shell for file names.
"""

from __future__ import annotations

from rootless.cli.main import COMMANDS, GLOBAL, MANAGEMENT, command_options, load_command
from rootless.engine import containers
from rootless.errors import RootlessError
from rootless.images import records
from rootless.oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from rootless.cli.options import Option
    from rootless.paths import Paths

    Candidate = tuple[str, str]

USAGE = "rootless __complete -- WORD..."
DESCRIPTION = "Print what may stand where the last of the words is."
OPTIONS: tuple[Option, ...] = ()
_FILE = ":file"
# Values whose metavar tells that they are paths.
_PATHS = ("dir", "file", "path")


def run(_options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print the candidates for the last of `arguments`; never fails, a shell shows no errors."""
    *before, current = arguments or [""]
    try:
        found = _candidates(before, current, paths)
    except (RootlessError, OSError):
        found = []
    for word, meaning in found:
        if word == _FILE or word.startswith(current):
            print(f"{word}\t{meaning}" if meaning else word)
    return 0


def _candidates(before: Sequence[str], current: str, paths: Paths) -> list[Candidate]:
    options, rest = GLOBAL, _after_flags(GLOBAL, before)
    if rest is None:
        return [(_FILE, "")]
    if not rest:
        return _flags(options) if current.startswith("-") else _commands()
    if rest[0] in MANAGEMENT:
        members = MANAGEMENT[rest[0]][1]
        if len(rest) == 1:
            return [(name, COMMANDS[words[0]][1]) for name, words in members.items()]
        if rest[1] not in members:
            return []
        rest = [*members[rest[1]], *rest[2:]]
    if rest[0] not in COMMANDS:
        return []
    return _of_command(load_command(rest[0]), rest[1:], current, paths)


def _after_flags(options: Sequence[Option], words: Sequence[str]) -> list[str] | None:
    """The words from the first argument on, or None where the last word is a flag that wants its value."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if _wants_value(options, flag):
            if not rest:
                return None
            rest.pop(0)
    return rest


def _wants_value(options: Sequence[Option], word: str) -> Option | None:
    """The option that takes the next word as its value, if `word` is such a flag."""
    if "=" in word or not word.startswith("-"):
        return None
    name = word if word.startswith("--") else "-" + word[-1]
    return next((option for option in options if option.value and name in option.names), None)


def _of_command(
    command: ModuleType, words: Sequence[str], current: str, paths: Paths
) -> list[Candidate]:
    options = command_options(command)
    wanting = _wants_value(options, words[-1]) if words else None
    if wanting is not None:
        return _values(wanting)
    has_arguments = bool(_after_flags(options, words))
    if has_arguments and not getattr(command, "INTERSPERSED", True):
        return [(_FILE, "")]  # words of the container's own command
    if current.startswith("--") and "=" in current:
        name = current.partition("=")[0]
        option = _wants_value(options, name)
        return [(f"{name}={word}", meaning) for word, meaning in _values(option)] if option else []
    if current.startswith("-"):
        return _flags(options)
    kinds = str(getattr(command, "COMPLETE", "file")).split()
    return [found for kind in kinds for found in _objects(kind, paths)]


def _values(option: Option) -> list[Candidate]:
    if option.choices:
        return [(choice, "") for choice in option.choices]
    return [(_FILE, "")] if option.value in _PATHS else []


def _objects(kind: str, paths: Paths) -> list[Candidate]:
    if kind == "container":
        return [
            (item.name or item.id[:12], f"{item.image} ({item.status})")
            for item in containers.list(paths)
        ]
    if kind == "image":
        names = [
            reference.parse(entry["reference"]).familiar for entry in records.list_references(paths)
        ]
        return [(name, "") for name in (*names, records.HOST)]
    if kind == "manifest":
        from rootless.images import manifest_lists  # with an HTTP library

        return [(name, "") for name in manifest_lists.names(paths)]
    if kind == "command":
        return _commands()
    return [(_FILE if kind == "file" else kind, "")]


def _commands() -> list[Candidate]:
    plain = [
        (name, summary) for name, (_, summary, _) in COMMANDS.items() if summary and " " not in name
    ]
    return plain + [(name, summary) for name, (summary, _) in MANAGEMENT.items()]


def _flags(options: Sequence[Option]) -> list[Candidate]:
    return [
        (name, option.help)
        for option in options
        for name in option.names
        if name.startswith("--") and option.help
    ]
