# SPDX-License-Identifier: Apache-2.0
"""Seccomp profiles: docker's form becomes the specification's, and that becomes a BPF program. Cold.

`resolve` answers the questions a profile leaves open (processor, capabilities, kernel), `check`
holds linux.seccomp against the runtime specification (config-linux.md, "Seccomp"), and
`compile_profile` translates it with libseccomp. Programs are kept by `runtime.seccomp_cache`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Any

from rootless import log
from rootless.errors import HostUnable, Invalid, NotFound
from rootless.linux import abi, capability, seccomp
from rootless.oci import document
from rootless.runtime import libseccomp, seccomp_prelude
from rootless.runtime.libseccomp import Condition
from rootless.runtime.seccomp_cache import Program

_ERRNO, _TRACE, _NOTIFY = "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"
ACTIONS = {
    "SCMP_ACT_KILL": seccomp.RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": seccomp.RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": seccomp.RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": seccomp.RET_TRAP,
    _ERRNO: seccomp.RET_ERRNO,
    _TRACE: seccomp.RET_TRACE,
    "SCMP_ACT_ALLOW": seccomp.RET_ALLOW,
    "SCMP_ACT_LOG": seccomp.RET_LOG,
    _NOTIFY: seccomp.RET_USER_NOTIF,
}
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
_FLAGS = {
    # Threads to bring along there are none: the filter is loaded by a process with one.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": seccomp.FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": seccomp.FILTER_FLAG_SPEC_ALLOW,
    # The kernel takes it together with a listener only.
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": seccomp.FILTER_FLAG_WAIT_KILLABLE_RECV,
}
# fmt: off
_ARCHITECTURES = {
    "SCMP_ARCH_" + name
    for name in (
        "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL",
        "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC",
        "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB",
    )
}
# fmt: on
_EPERM, _MAX_ERRNO, _MAX_ARGUMENT = 1, 4095, 5
_FIELDS = {
    "defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath",
    "listenerMetadata", "syscalls",
}  # fmt: skip


# -- docker's form -----------------------------------------------------------------------------------


def read(path: str) -> dict[str, Any]:
    """A profile from a file, in docker's form or the specification's; NotFound or Invalid."""
    try:
        with open(path, "rb") as file:
            text = file.read(document.MAX_SIZE + 1)
    except OSError as problem:
        reason = (problem.strerror or "").lower()
        raise NotFound(
            f"cannot read the seccomp profile: {path}: {reason}",
            hint="name a JSON file, or: --security-opt seccomp=unconfined",
        ) from None
    profile = document.load_strict(text, path)
    if not isinstance(profile, dict):
        raise Invalid(f"{path}: a seccomp profile is a JSON object")
    return profile


def resolve(
    profile: dict[str, Any], capabilities: int, architecture: str = "", *, where: str = "profile"
) -> dict[str, Any]:
    """linux.seccomp for this machine and a container with these capabilities (bits).

    Docker's form has conditions: `archMap`, and `includes` and `excludes` with `caps`, `arches` (Go's
    names) and `minKernel`; a profile without them comes back as it is. `architecture` is that of
    the image, where it is not the machine's. Raises Invalid naming the place.
    """
    _expect(isinstance(profile.get("syscalls", []), list), f"{where}.syscalls", "not a list")
    made = {key: value for key, value in profile.items() if key in _FIELDS}
    if profile.get("archMap"):
        made["architectures"] = _architectures(profile["archMap"], where + ".archMap")
    told = _Circumstances(capabilities, {abi.GO_NAME, architecture or abi.GO_NAME})
    made["syscalls"] = []
    for number, group in enumerate(profile.get("syscalls") or ()):
        place = f"{where}.syscalls[{number}]"
        _expect(isinstance(group, dict), place, "not an object")
        if told.permit(group, place):
            kept = {key: group[key] for key in ("action", "errnoRet", "args") if key in group}
            kept["names"] = group.get("names") or [group.get("name")]
            made["syscalls"].append(kept)
    return made


class _Circumstances:
    """What docker's conditions ask about."""

    def __init__(self, capabilities: int, architectures: set[str]) -> None:
        bits = enumerate(capability.NAMES)
        self.capabilities = {name for number, name in bits if capabilities >> number & 1}
        self.architectures = architectures
        self.kernel = _version(os.uname().release)

    def permit(self, group: dict[str, Any], place: str) -> bool:
        """All of `includes` and none of `excludes`."""
        includes = _condition(group, "includes", place)
        excludes = _condition(group, "excludes", place)
        return not (
            set(includes.get("caps") or ()) - self.capabilities
            or (includes.get("arches") and not self.architectures & set(includes["arches"]))
            or self.kernel < _version(includes.get("minKernel") or "0")
            or self.capabilities & set(excludes.get("caps") or ())
            or self.architectures & set(excludes.get("arches") or ())
            or (excludes.get("minKernel") and self.kernel >= _version(excludes["minKernel"]))
        )


def _condition(group: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    condition = group.get(key) or {}
    _expect(isinstance(condition, dict), f"{place}.{key}", "not an object")
    for name in ("caps", "arches"):
        _check_strings(condition.get(name) or [], f"{place}.{key}.{name}")
    _expect(isinstance(condition.get("minKernel") or "", str), f"{place}.{key}", "not a version")
    return dict(condition)


def _architectures(entries: Any, place: str) -> list[str]:
    """The architectures of the entry for this machine."""
    _expect(isinstance(entries, list), place, "not a list")
    for number, entry in enumerate(entries):
        _expect(isinstance(entry, dict), f"{place}[{number}]", "not an object")
        if entry.get("architecture") == abi.SECCOMP_NAME:
            others = entry.get("subArchitectures") or []
            _check_strings(others, f"{place}[{number}].subArchitectures")
            return [abi.SECCOMP_NAME, *others]
    return []


def _version(text: str) -> tuple[int, ...]:
    """The first two numbers of a kernel's version."""
    return tuple(
        int("".join(digit for digit in part if digit.isdigit()) or 0)
        for part in text.split(".")[:2]
    )


# -- the specification's form ------------------------------------------------------------------------


def check(spelled: Any, where: str = "linux.seccomp") -> None:
    """Hold linux.seccomp against the specification; Invalid names the first thing wrong with it."""
    _expect(isinstance(spelled, dict), where, "not an object")
    _check_action(spelled, "defaultAction", "defaultErrnoRet", where)
    _expect(
        spelled["defaultAction"] != _NOTIFY,
        f"{where}.defaultAction",
        f"{_NOTIFY} would wait for a listener that nobody has got yet",
    )
    architectures = spelled.get("architectures") or []
    _check_strings(architectures, f"{where}.architectures", _ARCHITECTURES)
    _check_strings(spelled.get("flags") or [], f"{where}.flags", set(_FLAGS))
    groups = spelled.get("syscalls") or []
    _expect(isinstance(groups, list), f"{where}.syscalls", "not a list")
    for number, group in enumerate(groups):
        _check_group(group, f"{where}.syscalls[{number}]")
    _check_listener(spelled, where)


def _check_group(group: Any, place: str) -> None:
    _expect(isinstance(group, dict), place, "not an object")
    names = group.get("names")
    _expect(bool(names), f"{place}.names", "is missing or empty")
    _check_strings(names, f"{place}.names")
    _check_action(group, "action", "errnoRet", place)
    arguments = group.get("args") or []
    _expect(isinstance(arguments, list), f"{place}.args", "not a list")
    for number, argument in enumerate(arguments):
        _check_argument(argument, f"{place}.args[{number}]")


def _check_argument(argument: Any, place: str) -> None:
    _expect(isinstance(argument, dict), place, "not an object")
    _check_number(argument.get("index"), f"{place}.index", _MAX_ARGUMENT)
    for key in ("value", "valueTwo"):
        _check_number(argument.get(key, 0), f"{place}.{key}", (1 << 64) - 1)
    operator = argument.get("op")
    _expect(
        isinstance(operator, str) and operator in libseccomp.COMPARISONS,
        f"{place}.op",
        f"no such operator: {operator!r}",
    )


def _check_action(holder: dict[str, Any], key: str, errno_key: str, place: str) -> None:
    action = holder.get(key)
    known = isinstance(action, str) and action in ACTIONS
    _expect(known, f"{place}.{key}", f"no such action: {action!r}")
    number = holder.get(errno_key)
    if number is None:
        return
    takes = action in (_ERRNO, _TRACE)
    # Docker writes a defaultErrnoRet beside any default action; one for a call must mean something.
    _expect(takes or errno_key != "errnoRet", f"{place}.{errno_key}", f"{action} takes no errno")
    _check_number(number, f"{place}.{errno_key}", 0xFFFF if action == _TRACE else _MAX_ERRNO)


def _check_listener(spelled: dict[str, Any], where: str) -> None:
    path, metadata = spelled.get("listenerPath"), spelled.get("listenerMetadata")
    is_path = path is None or (isinstance(path, str) and path.startswith("/"))
    _expect(is_path or path == "", f"{where}.listenerPath", "not an absolute path")
    is_text = metadata is None or isinstance(metadata, str)
    _expect(is_text, f"{where}.listenerMetadata", "not a string")
    _expect(
        bool(path) or not metadata, f"{where}.listenerMetadata", "is set without a listenerPath"
    )
    asking = list(_asking(spelled))
    _expect(bool(path) or not asking, f"{where}.listenerPath", f"is missing: {_NOTIFY} is used")
    for name in sorted({"sendmsg", "write"} & set(asking)):
        raise Invalid(
            f"{where}.syscalls: {name} cannot be {_NOTIFY}: it is needed before anybody listens"
        )


def _asking(spelled: dict[str, Any]) -> Iterator[str]:
    for group in spelled.get("syscalls") or ():
        if group["action"] == _NOTIFY:
            yield from group["names"]


def needs_listener(spelled: dict[str, Any]) -> bool:
    """Whether a checked linux.seccomp asks somebody outside about some calls."""
    return any(True for _ in _asking(spelled))


def load_flags(spelled: dict[str, Any]) -> int:
    """The flags for seccomp(2) of a checked linux.seccomp, without that for the listener.

    Nobody asking for any gets SPEC_ALLOW, as from runc: kernels before 5.16 otherwise turn off
    speculation, and a third of the speed, for whoever has a filter.
    """
    if spelled.get("flags") is None:
        return seccomp.FILTER_FLAG_SPEC_ALLOW
    flags = 0
    for name in spelled["flags"]:
        flags |= _FLAGS[name]
    if not needs_listener(spelled):
        flags &= ~seccomp.FILTER_FLAG_WAIT_KILLABLE_RECV
    return flags


def _expect(truth: bool, place: str, text: str) -> None:
    if not truth:
        raise Invalid(f"{place}: {text}")


def _check_strings(values: Any, place: str, allowed: set[str] | None = None) -> None:
    _expect(isinstance(values, list), place, "not a list")
    for number, value in enumerate(values):
        _expect(isinstance(value, str) and bool(value), f"{place}[{number}]", "not a name")
        _expect(
            allowed is None or value in allowed, f"{place}[{number}]", f"is not known: {value!r}"
        )


def _check_number(value: Any, place: str, limit: int) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    _expect(is_number and 0 <= value <= limit, place, f"not a number from 0 to {limit}: {value!r}")


# -- compiling ---------------------------------------------------------------------------------------


def compile_profile(spelled: dict[str, Any], where: str = "linux.seccomp") -> Program:
    """linux.seccomp as a program for `linux.seccomp.load`, with its flags.

    Calls that neither libseccomp nor we have heard of are passed over, as runc does: they get the
    default. Raises Invalid, or HostUnable without libseccomp.
    """
    check(spelled, where)
    default = _action(spelled["defaultAction"], spelled.get("defaultErrnoRet"))
    newer: dict[str, int] = {}
    with libseccomp.Filter(default) as made:
        for name in spelled.get("architectures") or ():
            token = libseccomp.resolve_architecture(name)
            if token is None:
                log.debug("seccomp.architecture", unknown=name)
            else:
                made.add_architecture(token)
        groups = list(enumerate(spelled.get("syscalls") or ()))
        # Those without conditions first: see libseccomp.Filter.add_rule.
        for number, group in sorted(groups, key=lambda item: bool(item[1].get("args"))):
            action = _action(group["action"], group.get("errnoRet"))
            if action != default:  # which libseccomp refuses to be told
                _add_group(made, group, action, newer, f"{where}.syscalls[{number}]")
        try:
            program = made.export()
        except OSError as problem:
            raise HostUnable(f"{where}: cannot be compiled: {problem.strerror}") from None
    program = _prelude(spelled, newer) + program
    if len(program) > seccomp.MAX_INSTRUCTIONS * seccomp.INSTRUCTION_SIZE:
        raise Invalid(f"{where}: too long: a filter has at most {seccomp.MAX_INSTRUCTIONS} steps")
    return Program(program, load_flags(spelled))


def _action(name: str, number: int | None) -> int:
    action = ACTIONS[name]
    if name in (_ERRNO, _TRACE):
        action |= _EPERM if number is None else number
    return action


def _add_group(
    made: libseccomp.Filter, group: dict[str, Any], action: int, newer: dict[str, int], place: str
) -> None:
    rules = _rules(group.get("args") or ())
    for name in group["names"]:
        number = libseccomp.resolve(name)
        if number is None:
            if seccomp_prelude.known(name) and rules == [()]:
                newer.setdefault(name, action)
            else:
                log.debug("seccomp.syscall", unknown=name)
            continue
        for conditions in rules:
            try:
                made.add_rule(action, number, conditions)
            except OSError as problem:
                text = "contradicts an earlier rule"
                reason = text if problem.errno == errno.EEXIST else problem.strerror
                raise Invalid(f"{place}: {name}: {reason}") from None


def _rules(arguments: Sequence[dict[str, Any]]) -> list[tuple[Condition, ...]]:
    """The rules of one group: all conditions must hold, or any of them.

    The specification does not say which. Runtimes agree on "all" unless two are about the same
    argument, which libseccomp cannot express; then each is a rule of its own.
    """
    conditions = tuple(
        (
            argument["index"],
            libseccomp.COMPARISONS[argument["op"]],
            argument.get("value", 0),
            argument.get("valueTwo", 0),
        )
        for argument in arguments
    )
    indices = [condition[0] for condition in conditions]
    if len(set(indices)) < len(indices):
        return [(condition,) for condition in conditions]
    return [conditions]


def _prelude(spelled: dict[str, Any], newer: dict[str, int]) -> bytes:
    """What comes before libseccomp's program, for the architectures that need it."""
    names = {name for group in spelled.get("syscalls") or () for name in group["names"]}
    parts = []
    for name in dict.fromkeys([abi.SECCOMP_NAME, *(spelled.get("architectures") or ())]):
        if name not in seccomp_prelude.AUDIT:
            continue
        numbers = {seccomp_prelude.number(call, name): action for call, action in newer.items()}
        calls = {number: action for number, action in numbers.items() if number is not None}
        last = _last(names, name) if _refuses_by_default(spelled) else None
        parts.append(seccomp_prelude.Part(name, calls, last))
    return seccomp_prelude.assemble(parts)


def _refuses_by_default(spelled: dict[str, Any]) -> bool:
    """Whether calls nobody thought of get something else than ENOSYS, and then need it said.

    A profile that answers EPERM to what it does not name breaks each program that asks for a newer
    call and would have been content with ENOSYS; runc has the same remedy.
    """
    default = spelled["defaultAction"]
    if default in _PERMISSIVE:
        return False
    return not (default == _ERRNO and spelled.get("defaultErrnoRet") == errno.ENOSYS)


def _last(names: set[str], architecture: str) -> int | None:
    """The greatest number among these calls on an architecture; None when it has none of them."""
    token = libseccomp.resolve_architecture(architecture)
    numbers = [seccomp_prelude.highest(names, architecture)]
    if token is not None:
        numbers += [libseccomp.resolve_on(token, name) or 0 for name in names]
    return max(numbers) or None
