# SPDX-License-Identifier: Apache-2.0
"""`--security-opt landlock=RULES`: a further wall around the command, which it cannot take down.

    RULES  = RULE *("," RULE)
    RULE   = "ro:" PATHS           read, list and execute beneath these
           / "rw:" PATHS           that, and write, create, remove, rename, use devices
           / "bind"    [":" PORTS] accept TCP connections on these ports, on no others
           / "connect" [":" PORTS] make TCP connections to these ports, to no others
           / "scope"               no signals to, and no abstract sockets of, processes outside
    PATHS  = path *(":" path)      absolute, in the container; ":" as in PATH
    PORTS  = number *(":" number)

What no rule mentions is as before: only with `ro` or `rw` is the rest of the file system closed,
only with `bind` or `connect` are other ports. For example: landlock=ro:/,rw:/tmp:/dev,connect:443

Runs between fork and exec, as the container's user; imports nothing later. See landlock(7).
"""

from __future__ import annotations

import os
import stat

from rootless.errors import HostUnable, UsageError
from rootless.linux import landlock
from rootless.runtime.rootfs import Stage, Step

_READ = (
    landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR
)  # fmt: skip
_ABI_1 = landlock.ACCESS_FS_MAKE_SYM * 2 - 1
_ABI_2 = landlock.ACCESS_FS_REFER  # before, moves between directories are always refused
_LATER = (  # since which ABI, which Linux that was, what it is for a person
    (3, "6.2", landlock.ACCESS_FS_TRUNCATE, "truncation"),
    (5, "6.10", landlock.ACCESS_FS_IOCTL_DEV, "ioctl on devices"),
)
_OF_FILES = (
    landlock.ACCESS_FS_EXECUTE
    | landlock.ACCESS_FS_READ_FILE
    | landlock.ACCESS_FS_WRITE_FILE
    | landlock.ACCESS_FS_TRUNCATE
    | landlock.ACCESS_FS_IOCTL_DEV
)
_PORTS = {"bind": landlock.ACCESS_NET_BIND_TCP, "connect": landlock.ACCESS_NET_CONNECT_TCP}
_NEEDED = {"bind": (4, "6.7"), "connect": (4, "6.7"), "scope": (6, "6.12")}
_HINT = "rules are such as: landlock=ro:/,rw:/tmp:/dev,connect:443"


class Landlock(Step):
    """Rules, as a step right before the exec. Needs no_new_privs, which whoever adds it has to set."""

    __slots__ = ("abi", "paths", "ports", "rights", "scoped")
    name = "landlock"

    def __init__(self, abi: int) -> None:
        super().__init__("asked for")
        self.abi = abi
        self.paths: list[tuple[str, str]] = []  # "ro" or "rw", and the path
        self.ports: dict[str, list[int]] = {}
        self.scoped = False
        self.rights = _ABI_1 | (_ABI_2 if abi >= 2 else 0)
        for since, _, right, _ in _LATER:
            if abi >= since:
                self.rights |= right

    def describe(self) -> str:
        parts = [f"{mode} {path}" for mode, path in self.paths]
        for word, ports in self.ports.items():
            parts.append(f"{word} {' '.join(map(str, ports)) or 'nothing'}")
        if self.scoped:
            parts.append("scope")
        if missing := self._missing():
            parts.append(f"not held by this kernel: {missing}")
        return ", ".join(parts)

    def _missing(self) -> str:
        if not self.paths:
            return ""
        return ", ".join(
            f"{what} (Linux {version})" for since, version, _, what in _LATER if self.abi < since
        )

    def execute(self, stage: Stage) -> None:
        scoped = landlock.SCOPE_ABSTRACT_UNIX_SOCKET | landlock.SCOPE_SIGNAL
        handled_ports = sum(_PORTS[word] for word in self.ports)
        ruleset = landlock.create_ruleset(
            self.rights if self.paths else 0, handled_ports, scoped if self.scoped else 0
        )
        try:
            for mode, path in self.paths:
                self._allow(ruleset, path, _READ if mode == "ro" else self.rights)
            for word, ports in self.ports.items():
                for port in ports:
                    landlock.add_port(ruleset, port, _PORTS[word])
            landlock.restrict_self(ruleset)
        finally:
            os.close(ruleset)

    def _allow(self, ruleset: int, path: str, rights: int) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= _OF_FILES
            landlock.add_path(ruleset, fd, rights, path)
        finally:
            os.close(fd)


def parse(text: str, abi: int | None = None) -> Landlock:
    """Rules as a step for a kernel with that Landlock ABI, by default this one.

    Raises UsageError for what is not a rule, and HostUnable when the kernel has no Landlock or
    lacks what a rule asks for by name. Finer rights it lacks are left out, and said by describe().
    """
    step = Landlock(landlock.abi_version() if abi is None else abi)
    for rule in text.split(","):
        word, _, rest = rule.partition(":")
        values = rest.split(":") if rest else []
        if word in ("ro", "rw"):
            step.paths += [(word, _path(value, rule)) for value in values or [""]]
        elif word in _PORTS:
            step.ports.setdefault(word, []).extend(_port(value, rule) for value in values)
        elif rule == "scope":
            step.scoped = True
        else:
            raise UsageError(f"--security-opt landlock: not a rule: {rule!r}", hint=_HINT)
    _demand(step)
    return step


def _demand(step: Landlock) -> None:
    """HostUnable when the kernel cannot do what is asked for by name."""
    if step.abi < 1:
        raise HostUnable(
            "--security-opt landlock: this kernel has no Landlock",
            hint="use a kernel with CONFIG_SECURITY_LANDLOCK=y and lsm=...,landlock",
        )
    for word in [*step.ports, *(["scope"] if step.scoped else [])]:
        since, version = _NEEDED[word]
        if step.abi < since:
            raise HostUnable(
                f"--security-opt landlock: {word}: this kernel has Landlock {step.abi}",
                hint=f"use Linux {version} or newer, or leave the rule out",
            )


def _path(value: str, rule: str) -> str:
    if not value.startswith("/"):
        raise UsageError(f"--security-opt landlock: not an absolute path in {rule!r}", hint=_HINT)
    return value


def _port(value: str, rule: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= 0xFFFF):
        raise UsageError(f"--security-opt landlock: not a port in {rule!r}", hint=_HINT)
    return int(value)
