# SPDX-License-Identifier: Apache-2.0
"""The part of Go's text/template that people write after `--format`, over JSON-like values.

    text with {{ action }}      "{{-" and "-}}" trim the white space outside
    action    = "if" pipeline | "else" ["if" pipeline] | "end" | "with" pipeline
              | "range" [ [$index ","] $element ":=" ] pipeline | [$name (":=" | "=")] pipeline
              | "/*" comment "*/"
    pipeline  = command { "|" command }       the value becomes the last operand of the next command
    command   = operand { operand }           a function or method with its arguments
    operand   = ( "." | $name | literal | Name | "(" pipeline ")" ) { "." Name }

A dictionary is a struct or a map as Go would have it: a missing field with a capital letter is an
error that lists the fields, any other missing key prints `<no value>`. A callable is a method.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rootless.cli.template_functions import FUNCTIONS, MISSING, format_value
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Token = tuple[str, str]  # kind and text
    Action = tuple[str, list[Token]]  # keyword and what follows it

_ACTION = re.compile(
    r'\{\{(?P<left>-(?=\s))?\s*(?P<body>(?:/\*.*?\*/|"(?:\\.|[^"\\])*"|`[^`]*`|.)*?)'
    r"\s*(?P<right>(?<=\s)-)?\}\}",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:\\.|[^"\\])*" | `[^`]*` | '(?:\\.|[^'\\])')
      | (?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<variable>\$\w*)
      | (?P<field>\.\w+)
      | (?P<word>\w+)
      | (?P<sign>:= | [.|(),=])
    )""",
    re.VERBOSE,
)
_BLOCKS = ("if", "with", "range")
_CONSTANTS = {"true": True, "false": False, "nil": None}


class Template:
    """A parsed template; raises UsageError where the text is not one."""

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> None:
        self._functions = functions
        self._nodes, _ = _parse_nodes(_pieces(text), inside="")

    def render(self, value: Any) -> str:
        """The text for one value, which is `.` and `$`; raises UsageError for an unknown field."""
        renderer = _Renderer(self._functions)
        renderer.run(self._nodes, value, {"$": value})
        return "".join(renderer.out)


# -- the tree ------------------------------------------------------------------------------------


@dataclass
class _Operand:
    """A value and the fields taken from it; `kind` is dot, variable, literal, function or pipeline."""

    kind: str
    value: Any = None
    fields: list[str] = field(default_factory=list)


@dataclass
class _Pipeline:
    commands: list[list[_Operand]]
    variables: list[str] = field(default_factory=list)


@dataclass
class _Block:
    """if, with or range and its two bodies; an action that only prints is the keyword "print"."""

    keyword: str
    pipeline: _Pipeline
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] = field(default_factory=list)


def _broken(problem: str) -> UsageError:
    return UsageError(
        f"template parsing error: {problem}", hint="see the field names with --format json"
    )


def _pieces(text: str) -> Iterator[str | Action]:
    """The template as literal texts and actions, white space trimmed where `-` asks for it."""
    position, trim = 0, False
    for found in _ACTION.finditer(text):
        literal = text[position : found.start()]
        yield _literal(literal, trim_left=trim, trim_right=bool(found["left"]))
        position, trim = found.end(), bool(found["right"])
        body = found["body"].strip()
        if not body.startswith("/*"):
            yield _action(body)
    yield _literal(text[position:], trim_left=trim, trim_right=False)


def _literal(text: str, *, trim_left: bool, trim_right: bool) -> str:
    if "{{" in text:
        raise _broken("unclosed action")
    text = text.lstrip() if trim_left else text
    return text.rstrip() if trim_right else text


def _action(body: str) -> Action:
    tokens: list[Token] = []
    position = 0
    while position < len(body):
        found = _TOKEN.match(body, position)
        if found is None:
            raise _broken(f"unexpected {body[position:].strip()[:12]!r} in {{{{{body}}}}}")
        kind = str(found.lastgroup)
        if kind == "field" and _continues(tokens, spaced=body[position].isspace()):
            kind = "chain"
        tokens.append((kind, found[str(found.lastgroup)]))
        position = found.end()
    if not tokens:
        raise _broken("missing value for command")
    kind, word = tokens[0]
    if kind == "word" and word in (*_BLOCKS, "else", "end"):
        return word, tokens[1:]
    return "print", tokens


def _continues(tokens: list[Token], *, spaced: bool) -> bool:
    """Whether a field belongs to the operand before it: `.A.B` is one operand, `.A .B` are two."""
    return bool(tokens) and not spaced and (tokens[-1][0] != "sign" or tokens[-1][1] in ".)")


def _parse_nodes(pieces: Iterator[str | Action], *, inside: str) -> tuple[list[Any], Action]:
    """The nodes up to the `else` or `end` of the block `inside`, and that action."""
    nodes: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            nodes.append(piece)
        elif piece[0] in ("else", "end"):
            if not inside:
                raise _broken(f"unexpected {{{{{piece[0]}}}}}")
            return nodes, piece
        else:
            nodes.append(_parse_block(piece, pieces))
    if inside:
        raise _broken(f"{{{{{inside}}}}} without {{{{end}}}}")
    return nodes, ("end", [])


def _parse_block(action: Action, pieces: Iterator[str | Action]) -> _Block:
    keyword, tokens = action
    block = _Block(keyword, _TokenReader(tokens).all())
    if keyword == "print":
        return block
    block.body, (ending, rest) = _parse_nodes(pieces, inside=keyword)
    if ending == "else" and rest:  # `else if` shares the `end`
        if rest[0][1] not in _BLOCKS:
            raise _broken(f"unexpected {rest[0][1]} after {{{{else}}}}")
        block.otherwise = [_parse_block((rest[0][1], rest[1:]), pieces)]
    elif ending == "else":
        block.otherwise, (ending, _) = _parse_nodes(pieces, inside=keyword)
        if ending == "else":
            raise _broken("expected {{end}}, found {{else}}")
    return block


class _TokenReader:
    """Reads the pipeline of one action from its tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def all(self) -> _Pipeline:
        """The pipeline that is all there is, with the variables it declares."""
        variables = self._declaration()
        pipeline = self._pipeline()
        pipeline.variables = variables
        if self._next < len(self._tokens):
            raise _broken(f"unexpected {self._peek()[1]!r} in command")
        return pipeline

    def _peek(self) -> Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "")

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _declaration(self) -> list[str]:
        for length in (2, 4):  # `$x :=` or `$i, $x :=`
            head = self._tokens[:length]
            if len(head) == length and head[-1] in (("sign", ":="), ("sign", "=")):
                names = [text for kind, text in head if kind == "variable"]
                if len(names) == length // 2:
                    self._next = length
                    return names
        return []

    def _pipeline(self) -> _Pipeline:
        commands = [self._command()]
        while self._peek() == ("sign", "|"):
            self._take()
            commands.append(self._command())
        return _Pipeline(commands)

    def _command(self) -> list[_Operand]:
        operands = []
        while self._peek()[0] != "end" and self._peek() not in (("sign", "|"), ("sign", ")")):
            operands.append(self._operand())
        if not operands:
            raise _broken("missing value for command")
        return operands

    def _operand(self) -> _Operand:
        kind, text = self._take()
        if kind == "field":
            operand = _Operand("dot", fields=[text[1:]])
        elif kind == "variable":
            operand = _Operand("variable", text)
        elif kind in ("string", "number"):
            operand = _Operand("literal", _literal_value(kind, text))
        elif kind == "word":
            constant = text in _CONSTANTS
            operand = (
                _Operand("literal", _CONSTANTS[text]) if constant else _Operand("function", text)
            )
        elif text == ".":
            operand = _Operand("dot")
        elif text == "(":
            operand = _Operand("pipeline", self._pipeline())
            if self._take() != ("sign", ")"):
                raise _broken("unclosed left parenthesis")
        else:
            raise _broken(f"unexpected {text!r} in operand")
        while self._peek()[0] == "chain":
            operand.fields.append(self._take()[1][1:])
        return operand


def _literal_value(kind: str, text: str) -> Any:
    if kind == "number":
        return float(text) if set(text) & set(".eE") else int(text)
    if text[0] == "`":
        return text[1:-1]
    import ast  # only for the rare literal

    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise _broken(f"invalid string {text}") from None
    return ord(value) if text[0] == "'" else value


# -- evaluation ----------------------------------------------------------------------------------


class _Renderer:
    """Walks the tree with a dot and the variables in scope, and collects the text in `out`."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions
        self.out: list[str] = []

    def run(self, nodes: list[Any], dot: Any, variables: dict[str, Any]) -> None:
        """Render `nodes`; a variable declared among them ends with them."""
        scope = dict(variables)
        for node in nodes:
            if isinstance(node, str):
                self.out.append(node)
            elif node.keyword == "print":
                value = self._pipeline(node.pipeline, dot, scope)
                if node.pipeline.variables:
                    scope[node.pipeline.variables[0]] = value
                else:
                    self.out.append(format_value(value))
            elif node.keyword == "range":
                self._range(node, dot, scope)
            else:
                value = self._pipeline(node.pipeline, dot, scope)
                inner = dict(scope)
                if node.pipeline.variables:
                    inner[node.pipeline.variables[0]] = value
                inside = value if node.keyword == "with" and value else dot
                self.run(node.body if value else node.otherwise, inside, inner)

    def _range(self, block: _Block, dot: Any, scope: dict[str, Any]) -> None:
        value = self._pipeline(block.pipeline, dot, scope)
        if not value:
            self.run(block.otherwise, dot, scope)
            return
        names = block.pipeline.variables
        for key, element in _elements(value):
            inner = dict(scope)
            if names:
                inner[names[-1]] = element
            if len(names) == 2:
                inner[names[0]] = key
            self.run(block.body, element, inner)

    def _pipeline(self, pipeline: _Pipeline, dot: Any, scope: dict[str, Any]) -> Any:
        piped: list[Any] = []
        for command in pipeline.commands:
            piped = [self._command(command, piped, dot, scope)]
        return piped[0]

    def _command(
        self, command: list[_Operand], piped: list[Any], dot: Any, scope: dict[str, Any]
    ) -> Any:
        head, *rest = command
        value = self._operand(head, dot, scope)
        arguments = [self._argument(operand, dot, scope) for operand in rest] + piped
        if callable(value):
            return _call(value, head, arguments)
        if arguments:
            raise _broken(f"can't give argument to non-function {_spelled(head)}")
        return value

    def _argument(self, operand: _Operand, dot: Any, scope: dict[str, Any]) -> Any:
        value = self._operand(operand, dot, scope)
        return _call(value, operand, []) if callable(value) else value

    def _operand(self, operand: _Operand, dot: Any, scope: dict[str, Any]) -> Any:
        if operand.kind == "literal":
            return operand.value
        if operand.kind == "function":
            if operand.value not in self._functions:
                raise _broken(f'function "{operand.value}" not defined')
            return self._functions[operand.value]
        if operand.kind == "pipeline":
            value = self._pipeline(operand.value, dot, scope)
        elif operand.kind == "variable":
            if operand.value not in scope:
                raise _broken(f'undefined variable "{operand.value}"')
            value = scope[operand.value]
        else:
            value = dot
        for name in operand.fields:
            value = _field(value, name)
        return value


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if not name[:1].isupper():
            return MISSING
        known = ", ".join(sorted(key for key in value if not callable(value[key]))) or "none"
        raise UsageError(f"template: no field .{name}", hint=f"the fields are: {known}")
    if value is None or value is MISSING:
        return MISSING
    raise UsageError(
        f"template: can't take field .{name} of {format_value(value)!r}",
        hint="see what there is with --format json",
    )


def _elements(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(index, index) for index in range(value)]
    raise _broken(f"range can't iterate over {format_value(value)}")


def _call(function: Callable[..., Any], operand: _Operand, arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, LookupError, AttributeError) as problem:
        raise _broken(f"error calling {_spelled(operand)}: {problem}") from None


def _spelled(operand: _Operand) -> str:
    head = "" if operand.kind == "dot" else str(operand.value)
    return ".".join((head, *operand.fields))
