# SPDX-License-Identifier: Apache-2.0
"""config.json of the runtime specification: reading it, and the check before anybody believes it. Hot.

What is known is checked down to the last value; unknown properties are ignored and unknown values
refused (config.md, "Extensibility"). A refusal begins with the JSON path of the culprit. The section
`linux` is in `oci.runtime_linux`, the types for the checker in `oci.runtime_types`.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import Invalid, NotFound
from rootless.oci import document, runtime_linux
from rootless.oci.shape import (
    INT32,
    UINT16,
    UINT32,
    Wrong,
    absolute,
    array,
    boolean,
    choice,
    filled,
    number,
    prefixed,
    record,
    shorten,
    table,
    text,
    uint64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.oci.shape import Rule

MAX_SIZE = 10 * 1024 * 1024

# capabilities(7), without the prefix CAP_.
CAPABILITIES = frozenset(
    prefixed(
        "CAP_",
        """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN
    MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID
    SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE
    SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """,
    )
)
# getrlimit(2), without the prefix RLIMIT_.
LIMITS = prefixed(
    "RLIMIT_",
    """
    AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING
    STACK
    """,
)
_MAX_ID = UINT32 - 1  # -1 means "leave unchanged" to setresuid(2)
_MAX_NAME = 64  # __NEW_UTS_LEN
_MAX_CPU = 8191  # the largest CONFIG_NR_CPUS


def load(path: str) -> dict[str, Any]:
    """The checked configuration in the file `path`.

    Raises NotFound when there is none, Invalid when it is not a regular file, too large, not
    strict JSON, or not a configuration.
    """
    return _complete(validate(_parsed(path)), path)


def load_process(path: str) -> dict[str, Any]:
    """The checked `process` object in the file `path`, as `exec --process` takes it."""
    return _complete(validate_process(_parsed(path)), path)


def validate(config: object) -> dict[str, Any]:
    """The configuration itself, checked against runtime-spec 1.2, without members that are null.

    Raises Invalid: one sentence that begins with the dotted JSON path of what is wrong.
    """
    return _checked(_config, config, "")


def validate_process(process: object) -> dict[str, Any]:
    """The same for a `process` object alone."""
    return _checked(_process, process, "process")


def validate_resources(resources: object) -> dict[str, Any]:
    """The same for a `linux.resources` object alone."""
    return _checked(runtime_linux.resources, resources, "resources")


def _checked(rule: Rule, value: Any, above: str) -> dict[str, Any]:
    try:
        rule(value)
    except Wrong as wrong:
        path = wrong.path()
        where = ".".join(part for part in (above, path) if part) or "config.json"
        raise Invalid(f"{where}: {wrong.reason}", hint=wrong.hint) from None
    checked: dict[str, Any] = value
    return checked


def _parsed(path: str) -> Any:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        raise NotFound(
            f"no such file: {path}", hint="rootless-oci spec --rootless writes an example"
        ) from None
    except OSError as problem:
        reason = os.strerror(problem.errno or errno.EIO).lower()
        raise Invalid(f"cannot read {path}: {reason}") from None
    try:
        status = os.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise Invalid(f"cannot read {path}: it is not a regular file")
        if status.st_size > MAX_SIZE:
            raise Invalid(f"cannot read {path}: it is larger than {MAX_SIZE} bytes")
        data = b""
        while len(data) <= MAX_SIZE and (chunk := os.read(fd, 1 << 20)):
            data += chunk
    finally:
        os.close(fd)
    return document.load_strict(data, path, max_size=MAX_SIZE)


def _complete(config: dict[str, Any], path: str) -> dict[str, Any]:
    """Refuse what nobody looked at and nobody could write again: it is kept for as long as we run."""
    try:
        document.dumps(config)
    except ValueError:  # also UnicodeEncodeError: half a surrogate pair
        raise Invalid(f"cannot read {path}: it holds a value that JSON cannot express") from None
    return config


# -- process -----------------------------------------------------------------------------------------


def _arguments(value: list[str]) -> None:
    if not value:
        raise Wrong("is empty: it must name a command")
    if not value[0]:
        raise Wrong("is empty: it must name a command").at(0)


def variable(value: Any) -> None:
    """An element of `env`."""
    text(value)
    name, equals, _ = value.partition("=")
    if not equals or not name:
        raise Wrong(f"must be KEY=VALUE: {shorten(value) or 'it is empty'}")


def _sets(value: dict[str, list[str]]) -> None:
    permitted = set(value.get("permitted", ()))
    for index, name in enumerate(value.get("effective", ())):
        if name not in permitted:
            raise Wrong(
                f"{name} is not in process.capabilities.permitted, see capset(2)",
                f"add {name} to permitted, or take it out of effective",
            ).at("effective", index)


def _limit(value: dict[str, Any]) -> None:
    if value["soft"] > value["hard"]:
        raise Wrong(f"{value['soft']} is more than the hard limit, {value['hard']}").at("soft")


def _scheduler(value: dict[str, Any]) -> None:
    policy = value["policy"]
    if value.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise Wrong(f"{policy} has no priority, only SCHED_FIFO and SCHED_RR have").at("priority")
    for key in ("runtime", "deadline", "period"):
        if value.get(key) and policy != "SCHED_DEADLINE":
            raise Wrong(f"{policy} has no {key}, only SCHED_DEADLINE has").at(key)


def _processors(value: Any) -> None:
    """A list of processors in the form of cpuset(7): 0-3,7."""
    text(value)
    for part in value.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        ends = (first, last) if dash else (first or "0", first or "0")
        good = all(end.isascii() and end.isdecimal() and len(end) < 6 for end in ends)
        if not good or not int(ends[0]) <= int(ends[1]) <= _MAX_CPU:
            raise Wrong(f"not a list of processors: {shorten(value)}", "write it like 0-3,7")


_id = number(0, _MAX_ID)
_capabilities = array(choice("capability", CAPABILITIES, listed=False))

_process = record(
    {
        "terminal": boolean,
        "consoleSize": record(
            {"height": number(0, UINT16), "width": number(0, UINT16)}, "height", "width"
        ),
        "user": record(
            {
                "uid": _id,
                "gid": _id,
                "umask": number(0, 0o777),
                "additionalGids": array(_id),
                "username": text,
            }
        ),
        "args": array(text, also=_arguments),
        "env": array(variable),
        "cwd": absolute,
        "capabilities": record(
            {
                "bounding": _capabilities,
                "effective": _capabilities,
                "inheritable": _capabilities,
                "permitted": _capabilities,
                "ambient": _capabilities,
            },
            also=_sets,
        ),
        "rlimits": array(
            record(
                {"type": choice("limit", LIMITS), "soft": uint64, "hard": uint64},
                "type", "soft", "hard", also=_limit,
            ),
            unique="type",
        ),
        "noNewPrivileges": boolean,
        "apparmorProfile": text,
        "selinuxLabel": text,
        "oomScoreAdj": number(-1000, 1000),
        "scheduler": record(
            {
                "policy": choice(
                    "policy",
                    ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO",
                     "SCHED_IDLE", "SCHED_DEADLINE"),
                ),
                "nice": number(-20, 19),
                "priority": number(0, 99),
                "flags": array(
                    choice(
                        "flag",
                        ("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
                         "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS",
                         "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"),
                    )
                ),
                "runtime": uint64,
                "deadline": uint64,
                "period": uint64,
            },
            "policy", also=_scheduler,
        ),
        "ioPriority": record(
            {
                "class": choice(
                    "class", prefixed("IOPRIO_CLASS_", "RT BE IDLE")
                ),
                "priority": number(0, 7),
            },
            "class",
        ),
        "execCPUAffinity": record({"initial": _processors, "final": _processors}),
    },
    "args", "cwd",
)  # fmt: skip


# -- root, mounts, hooks -----------------------------------------------------------------------------


def _not_the_root(value: Any) -> None:
    absolute(value)
    depth = 0
    for part in value.split("/"):
        if part == "..":
            depth = max(0, depth - 1)
        elif part not in ("", "."):
            depth += 1
    if not depth:
        raise Wrong(f"cannot be mounted over the container's root: {shorten(value)}")


def _mount(value: dict[str, Any]) -> None:
    options = value.get("options", ())
    is_bind = "bind" in options or "rbind" in options or value.get("type") in ("bind", "rbind")
    if is_bind and not value.get("source"):
        raise Wrong("is missing: it says what the bind mount shows").at("source")
    if not is_bind and not value.get("type"):
        raise Wrong("is missing: only a bind mount does without").at("type")
    for one, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if value.get(one) and not value.get(other):
            raise Wrong(f"is missing, and {one} is there").at(other)


_root = record({"path": filled, "readonly": boolean}, "path")
_mounts = array(
    record(
        {
            "destination": _not_the_root,
            "type": text,
            "source": text,
            "options": array(filled),
            "uidMappings": runtime_linux.mappings,
            "gidMappings": runtime_linux.mappings,
        },
        "destination",
        also=_mount,
    )
)
_hooks_of_one_kind = array(
    record(
        {
            "path": absolute,
            "args": array(text),
            "env": array(variable),
            "timeout": number(1, INT32),
        },
        "path",
    )
)


# -- the whole ---------------------------------------------------------------------------------------


def _version(value: Any) -> None:
    text(value)
    numbers = value.partition("+")[0].partition("-")[0].split(".")
    if len(numbers) != 3 or not all(part.isascii() and part.isdecimal() for part in numbers):
        raise Wrong(f"not a semantic version: {shorten(value) or 'it is empty'}", 'write "1.2.0"')
    if numbers[0] != "1":
        raise Wrong(f"version {shorten(value)} is not supported, only 1.x", 'write "1.2.0"')


def _name(value: Any) -> None:
    text(value)
    if len(value.encode()) > _MAX_NAME:
        raise Wrong(f"is longer than {_MAX_NAME} bytes: {shorten(value)}")


def _own_names(value: dict[str, Any]) -> None:
    """What needs a namespace of its own (config.md, "Hostname")."""
    kinds = {entry["type"] for entry in value.get("linux", {}).get("namespaces", ())}
    for key in ("hostname", "domainname"):
        if value.get(key) and "uts" not in kinds:
            raise Wrong(
                "cannot be set: the container shares the host's uts namespace",
                'add {"type": "uts"} to linux.namespaces',
            ).at(key)


_config = record(
    {
        "ociVersion": _version,
        "process": _process,
        "root": _root,
        "hostname": _name,
        "domainname": _name,
        "mounts": _mounts,
        "hooks": record(
            {
                "prestart": _hooks_of_one_kind,
                "createRuntime": _hooks_of_one_kind,
                "createContainer": _hooks_of_one_kind,
                "startContainer": _hooks_of_one_kind,
                "poststart": _hooks_of_one_kind,
                "poststop": _hooks_of_one_kind,
            }
        ),
        "annotations": table(text, keys=filled),
        "linux": runtime_linux.section,
    },
    "ociVersion", "root", also=_own_names,
)  # fmt: skip
