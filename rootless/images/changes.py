# SPDX-License-Identifier: Apache-2.0
"""Instructions of `--change`: a few of a Dockerfile's, applied to an image's config."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid, UsageError
from rootless.oci import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Config = dict[str, Any]

_SHELL = ["/bin/sh", "-c"]


def apply(changes: Iterable[str], config: Config) -> Config:
    """A config with the instructions applied in order; raises UsageError for one that is not one."""
    changed = dict(config)
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise UsageError(
                f"unknown instruction in --change: {word or change!r}",
                hint=f"use one of {', '.join(sorted(_INSTRUCTIONS))}",
            )
        if not rest.strip():
            raise UsageError(f"{word.upper()} in --change needs an argument")
        instruction(changed, rest.strip())
    return changed


def _command(text: str) -> list[str]:
    """The exec form, a JSON list of strings, or the shell form, which is everything else."""
    found = _strings(text)
    return [*_SHELL, text] if found is None else found


def _strings(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        found = document.load_strict(text, "instruction")
    except Invalid:
        return None
    is_list = isinstance(found, list) and all(isinstance(each, str) for each in found)
    return found if is_list else None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise UsageError(f"cannot split {text!r} in --change: {problem}".lower()) from None


def _pairs(text: str) -> list[tuple[str, str]]:
    """`NAME=value ...`, quoted as in a shell, or the old form `NAME value` to the end."""
    name, _, rest = text.partition(" ")
    if "=" not in name:
        if not rest.strip():
            raise UsageError(f"{text!r} in --change is not NAME=value")
        return [(name, rest.strip())]
    pairs = []
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{word!r} in --change is not NAME=value")
        pairs.append((name, value))
    return pairs


def _set_command(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _set_entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _add_environment(config: Config, text: str) -> None:
    variables = dict(each.partition("=")[::2] for each in config.get("Env") or ())
    variables.update(_pairs(text))
    config["Env"] = [f"{name}={value}" for name, value in variables.items()]


def _add_labels(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _set_directory(config: Config, text: str) -> None:
    before = config.get("WorkingDir") or "/"
    config["WorkingDir"] = text if text.startswith("/") else before.rstrip("/") + "/" + text


def _set_user(config: Config, text: str) -> None:
    config["User"] = text


def _add_ports(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(text):
        port, _, protocol = word.partition("/")
        first, _, last = port.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise UsageError(f"EXPOSE in --change: {word!r} is not a port")
        if protocol not in ("", "tcp", "udp", "sctp"):
            raise UsageError(f"EXPOSE in --change: {protocol!r} is not tcp, udp or sctp")
        ports[f"{port}/{protocol or 'tcp'}"] = {}
    config["ExposedPorts"] = ports


def _add_volumes(config: Config, text: str) -> None:
    found = _strings(text)
    names = _words(text) if found is None else found
    config["Volumes"] = {**(config.get("Volumes") or {}), **{name: {} for name in names}}


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _set_command,
    "ENTRYPOINT": _set_entrypoint,
    "ENV": _add_environment,
    "EXPOSE": _add_ports,
    "LABEL": _add_labels,
    "USER": _set_user,
    "VOLUME": _add_volumes,
    "WORKDIR": _set_directory,
}
