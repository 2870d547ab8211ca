# SPDX-License-Identifier: Apache-2.0
"""Rules for the shape of a JSON value, to be put together; a refusal knows the way to the culprit. Hot.

A rule is a function that raises Wrong. The way is collected while the stack unwinds, so a value that
is in order costs no text at all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    Rule = Callable[[Any], None]

UINT16, UINT32, UINT64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
INT32, INT64 = (1 << 31) - 1, (1 << 63) - 1
_LONGEST = 80  # characters of a value that a message repeats

_KINDS = {
    dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number",
    float: "a fraction", type(None): "null",
}  # fmt: skip


class Wrong(Exception):
    """A value breaks its rule."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.way: list[str | int] = []  # from the value outwards

    def at(self, *steps: str | int) -> Wrong:
        """The same, found one or more steps further inwards; for `raise Wrong(...).at("key", 0)`."""
        self.way.extend(reversed(steps))
        return self

    def path(self) -> str:
        """The way in dotted form, such as process.rlimits[0].soft; "" for the document itself."""
        text = ""
        for step in reversed(self.way):
            if isinstance(step, int):
                text += f"[{step}]"
            elif step.isidentifier():
                text += f".{step}" if text else step
            else:
                text += f'["{shorten(step)}"]'
        return text


def shorten(value: object) -> str:
    """A value for a message: printable, on one line, not long."""
    text = str(value)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def prefixed(prefix: str, words: str) -> tuple[str, ...]:
    """The words of a text, each with the prefix in front: the constants of one family."""
    return tuple(prefix + word for word in words.split())


# -- single values -----------------------------------------------------------------------------------


def text(value: Any) -> None:
    """A string that can be a name, a path or an argument of a program."""
    if type(value) is not str:
        raise Wrong(f"must be a string, not {kind(value)}")
    if "\0" in value:
        raise Wrong("holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Wrong("holds half a surrogate pair, which is no character") from None


def filled(value: Any) -> None:
    """A string with something in it."""
    text(value)
    if not value:
        raise Wrong("is empty")


def absolute(value: Any) -> None:
    """An absolute path."""
    text(value)
    if value[:1] != "/":
        raise Wrong(f"must be an absolute path: {shorten(value) or 'it is empty'}")


def boolean(value: Any) -> None:
    """True or false."""
    if type(value) is not bool:
        raise Wrong(f"must be true or false, not {kind(value)}")


def number(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`."""

    def rule(value: Any) -> None:
        if type(value) is not int:
            raise Wrong(f"must be a whole number, not {kind(value)}")
        if not low <= value <= high:
            raise Wrong(f"must be from {low} to {high}, not {shorten(value)}")

    return rule


uint16, uint32, uint64 = number(0, UINT16), number(0, UINT32), number(0, UINT64)
int32, int64 = number(-INT32 - 1, INT32), number(-INT64 - 1, INT64)


def choice(what: str, known: Collection[str], *, listed: bool = True) -> Rule:
    """One of the strings `known`; a refusal says that there is no such `what`, and what there is."""
    hint = "use " + _enumerate(sorted(known)) if listed else ""

    def rule(value: Any) -> None:
        if type(value) is not str:
            raise Wrong(f"must be a string, not {kind(value)}")
        if value not in known:
            raise Wrong(f"no such {what}: {shorten(value) or 'it is empty'}", hint)

    return rule


def _enumerate(words: list[str]) -> str:
    words = [word for word in words if word]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


# -- what has parts ----------------------------------------------------------------------------------


def array(rule: Rule, *, also: Rule | None = None, unique: str = "") -> Rule:
    """An array whose elements follow `rule`; `also` sees the whole of it afterwards.

    `unique` names a member that no two elements, which are objects, may have in common.
    """

    def check(value: Any) -> None:
        if type(value) is not list:
            raise Wrong(f"must be an array, not {kind(value)}")
        index = 0
        try:
            for index, element in enumerate(value):  # noqa: B007
                rule(element)
        except Wrong as wrong:
            raise wrong.at(index) from None
        if unique:
            _refuse_twins(value, unique)
        if also is not None:
            also(value)

    return check


def _refuse_twins(elements: list[dict[str, Any]], member: str) -> None:
    seen: dict[Any, int] = {}
    for index, element in enumerate(elements):
        before = seen.setdefault(element[member], index)
        if before != index:
            raise Wrong(f"stands twice, here and in [{before}]: {shorten(element[member])}").at(
                index, member
            )


def table(rule: Rule, *, keys: Rule | None = None) -> Rule:
    """An object with any keys whose values follow `rule`; `keys` is the rule of the keys."""

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be an object, not {kind(value)}")
        key = ""
        try:
            for key, element in value.items():
                if keys is not None:
                    keys(key)
                rule(element)
        except Wrong as wrong:
            raise wrong.at(key) from None

    return check


def record(members: Mapping[str, Rule], *required: str, also: Rule | None = None) -> Rule:
    """An object with these members, each with its rule; others are of no interest.

    A member that is null is taken out of the object: that is how Go's encoder writes what is not
    set. `also` sees the whole of it afterwards.
    """

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be an object, not {kind(value)}")
        nulls = [key for key, element in value.items() if element is None and key in members]
        for key in nulls:
            del value[key]
        for key in required:
            if key not in value:
                raise Wrong("is missing").at(key)
        key = ""
        try:
            for key, element in value.items():
                rule = members.get(key)
                if rule is not None:
                    rule(element)
        except Wrong as wrong:
            raise wrong.at(key) from None
        if also is not None:
            also(value)

    return check
