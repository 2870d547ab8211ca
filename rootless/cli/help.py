# SPDX-License-Identifier: Apache-2.0
"""The help texts, rendered from the tables of commands and options in docker's layout; also `rootless help`."""

from __future__ import annotations

import difflib
import shutil
import textwrap

from rootless.cli.main import COMMANDS, GLOBAL, MANAGEMENT, command_options, dispatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType
    from typing import Any

    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless help [COMMAND]"
DESCRIPTION = "Show the help of a command, or of rootless itself."
OPTIONS: tuple[Option, ...] = ()
COMPLETE = "command"

_EXAMPLE = "For a first container: rootless run --rm host cat /etc/os-release"


def run(_options: dict[str, Any], arguments: list[str], _paths: Paths) -> int:
    """Show the help of the command named by `arguments`, which may be two words (`image ls`)."""
    return dispatch([*arguments, "--help"]) if arguments else print_overview()


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that looks like what was meant by `word`, or nothing."""
    names = [name for name in known if not name.startswith("__")]
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return found[0] if found else ""


def print_overview() -> int:
    """Print what `rootless --help` shows: the commands by group and the global flags."""
    print("Usage:  rootless [OPTIONS] COMMAND\n\nContainers and images without root")
    for group in ("Common", "Commands"):
        rows = [(name, summary) for name, (_, summary, where) in COMMANDS.items() if where == group]
        print(f"\n{'Common Commands' if group == 'Common' else group}:")
        print(_columns(rows))
    print("\nManagement Commands:")
    print(_columns([(name, summary) for name, (summary, _) in MANAGEMENT.items()]))
    print("\nGlobal Options:")
    print(_columns([_option_row(option) for option in GLOBAL]))
    print("\nRun `rootless COMMAND --help` for more about a command.")
    print(_EXAMPLE)
    return 0


def print_group(group: str) -> int:
    """Print the help of a management command, such as `image`."""
    summary, members = MANAGEMENT[group]
    rows = [(name, COMMANDS[words[0]][1]) for name, words in members.items()]
    print(f"Usage:  rootless {group} COMMAND\n\n{summary}\n\nCommands:")
    print(_columns(rows))
    print(f"\nRun `rootless {group} COMMAND --help` for more about a command.")
    return 0


def print_command(title: str, command: ModuleType) -> int:
    """Print the help of one command; `title` is how it was spelled (`image ls`)."""
    print(render_command(title, command))
    return 0


def render_command(title: str, command: ModuleType) -> str:
    """The help text of one command: usage, description, its other spellings and its flags."""
    parts = [f"Usage:  {command.USAGE}", "\n".join(_wrap(command.DESCRIPTION, _width()))]
    spellings = [f"rootless {spelling}" for spelling in spellings_of(command)]
    if len(spellings) > 1:
        parts.append("Aliases:\n  " + ", ".join(spellings))
    rows = sorted(
        (_option_row(option) for option in command_options(command) if option.help),
        key=lambda row: row[0].lstrip(" -").partition("--")[2] or row[0].lstrip(" -"),
    )
    parts.append("Options:\n" + _columns(rows))
    return "\n\n".join(parts)


def spellings_of(command: ModuleType) -> list[str]:
    """Every way to type a command: `ps` is also `container ls`."""
    module = command.__name__.rpartition(".")[2]
    plain = [name for name, (where, _, _) in COMMANDS.items() if where == module]
    managed = [
        f"{group} {member}"
        for group, (_, members) in MANAGEMENT.items()
        for member, words in members.items()
        if words[0] in plain
    ]
    return list(dict.fromkeys(managed + plain))


def _option_row(option: Option) -> tuple[str, str]:
    """(`  -e, --env list`, help with its default), aligned as docker aligns them."""
    shorts = [name for name in option.names if not name.startswith("--")]
    longs = [name for name in option.names if name.startswith("--")]
    spelled = ", ".join(shorts + longs)
    if not shorts:
        spelled = "    " + spelled
    text = option.help
    if option.choices:
        text += f" ({', '.join(option.choices)})"
    if option.default:
        text += f" (default {option.default})"
    return (f"{spelled} {option.value}".rstrip(), text)


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    left = max(len(name) for name, _ in rows)
    room = max(_width() - left - 5, 30)
    lines = []
    for name, text in rows:
        first, *more = _wrap(text, room) or [""]
        lines.append(f"  {name:{left}}   {first}".rstrip())
        lines.extend(" " * (left + 5) + line for line in more)
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, width) or [""]]


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)
