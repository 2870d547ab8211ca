# SPDX-License-Identifier: Apache-2.0
"""The command-line grammar of docker (Go's pflag) over a table of options; hot, knows no command.

    long      = "--" name [ "=" value ]             --name x   --name=x   --rm   --rm=false
    short     = "-" { letter } [ [ "=" ] value ]    -n x   -nx   -n=x   -it   -itn x
    end       = "--"                                everything after it is an argument
    argument  = anything else, and "-" alone

A flag without a metavar is a boolean: it never takes the next word, only `=true` or `=false`.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# What Go's strconv.ParseBool takes.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}


class Option:
    """One flag of a command.

    `names` are its spellings (`"--env", "-e"`); `value` is the metavar of its value, and empty for
    a boolean, which is false unless its `default` is "true"; `many` collects a list; `choices` are
    the values accepted, if not all are. It appears in the parsed values as `dest`: the first long
    name in Python's spelling (`cap_add`).
    """

    __slots__ = ("choices", "default", "dest", "help", "many", "names", "value")

    def __init__(
        self,
        *names: str,
        value: str = "",
        many: bool = False,
        default: str | None = None,
        help: str = "",
        choices: Sequence[str] = (),
    ) -> None:
        self.names = names
        self.value = value
        self.many = many
        self.default = default
        self.help = help
        self.choices = choices
        name = next((name for name in names if name.startswith("--")), names[0])
        self.dest = name.lstrip("-").replace("-", "_")

    @property
    def initial(self) -> Any:
        """What the parsed values hold when the flag is absent: its default, or a new list."""
        if self.many:
            return []
        return self.default if self.value else self.default == "true"


def parse(
    options: Sequence[Option], argv: Sequence[str], *, interspersed: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Split `argv` into the values of `options`, by `dest`, and the arguments that are no flags.

    A flag that is given twice has its last value, unless it collects. With `interspersed` false the
    first argument ends the flags, as for `run`, where the rest belongs to the container.
    Raises UsageError for an unknown flag, a missing value or one that is not allowed.
    """
    known = {name: option for option in options for name in option.names}
    values = {option.dest: option.initial for option in options}
    arguments: list[str] = []
    words = list(argv)
    words.reverse()
    while words:
        word = words.pop()
        if word == "--":
            arguments.extend(reversed(words))
            break
        if word.startswith("--"):
            _parse_long(known, word, words, values)
        elif word.startswith("-") and word != "-":
            _parse_shorts(known, word, words, values)
        else:
            arguments.append(word)
            if not interspersed:
                arguments.extend(reversed(words))
                break
    return values, arguments


def _parse_long(
    known: dict[str, Option], word: str, words: list[str], values: dict[str, Any]
) -> None:
    name, equals, text = word.partition("=")
    option = known.get(name)
    if option is None:
        raise _unknown(f"unknown flag: {name}", name, known)
    if equals:
        _store(option, name, text, values)
    elif not option.value:
        values[option.dest] = True
    elif words:
        _store(option, name, words.pop(), values)
    else:
        raise UsageError(f"flag needs an argument: {name}", hint=_example(option, name))


def _parse_shorts(
    known: dict[str, Option], word: str, words: list[str], values: dict[str, Any]
) -> None:
    """One word of single letters: booleans may be joined, the first that takes a value ends it."""
    rest = word[1:]
    while rest:
        name, rest = "-" + rest[0], rest[1:]
        option = known.get(name)
        if option is None:
            raise _unknown(f"unknown shorthand flag: '{name[1]}' in {word}", "-" + word, known)
        if rest.startswith("="):
            _store(option, name, rest[1:], values)
            return
        if option.value:
            if not rest and not words:
                raise UsageError(
                    f"flag needs an argument: '{name[1]}' in {word}", hint=_example(option, name)
                )
            _store(option, name, rest or words.pop(), values)
            return
        values[option.dest] = True


def _store(option: Option, name: str, text: str, values: dict[str, Any]) -> None:
    if not option.value:
        if text not in _BOOLEANS:
            raise UsageError(
                f'invalid argument "{text}" for {name}: not a boolean',
                hint=f"give {name}, {name}=true or {name}=false",
            )
        values[option.dest] = _BOOLEANS[text]
        return
    if option.choices and text not in option.choices:
        raise UsageError(
            f'invalid argument "{text}" for {name}', hint=f"choose {' or '.join(option.choices)}"
        )
    if option.many:
        values[option.dest].append(text)
    else:
        values[option.dest] = text


def _example(option: Option, name: str) -> str:
    joint = "=" if name.startswith("--") else " "
    return f"give it a value: {name}{joint}{option.value.upper()}"


def _unknown(message: str, name: str, known: dict[str, Option]) -> UsageError:
    """The error for a flag nobody knows; `-name` for `--name` is the commonest slip of all."""
    from rootless.cli.help import closest  # cold, and only on the way out

    guess = closest(name, (flag for flag in known if flag.startswith("--")))
    return UsageError(message, hint=f"did you mean {guess}?" if guess else "")
