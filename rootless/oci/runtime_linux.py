# SPDX-License-Identifier: Apache-2.0
"""The rules for the section `linux` of config.json (config-linux.md). Hot; see `oci.runtime`."""

from __future__ import annotations

from rootless.oci.shape import (
    UINT32,
    Wrong,
    absolute,
    array,
    boolean,
    choice,
    filled,
    int64,
    number,
    prefixed,
    record,
    shorten,
    table,
    text,
    uint16,
    uint32,
    uint64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
_MAX_MAPPINGS = 340  # user_namespaces(7)
_MAX_ERRNO = 4095

# -- namespaces and their maps -----------------------------------------------------------------------


def _namespace_path(value: Any) -> None:
    text(value)
    if value:  # an empty one is how some callers write that there is none
        absolute(value)


_namespaces = array(
    record({"type": choice("namespace", NAMESPACES), "path": _namespace_path}, "type"),
    unique="type",
)


def _mapping(value: dict[str, int]) -> None:
    for key in ("containerID", "hostID"):
        if value[key] + value["size"] > UINT32:
            raise Wrong(f"{value[key]} and the {value['size'] - 1} after it go beyond the last id")


def _no_overlap(value: list[dict[str, int]]) -> None:
    if len(value) > _MAX_MAPPINGS:
        raise Wrong(f"has {len(value)} entries, and the kernel takes {_MAX_MAPPINGS}")
    for key in ("containerID", "hostID"):
        order = sorted((entry[key], index) for index, entry in enumerate(value))
        for (start, before), (next_start, index) in zip(order, order[1:], strict=False):
            if start + value[before]["size"] > next_start:
                raise Wrong(f"{next_start} is in [{before}] already").at(index, key)


mappings = array(
    record(
        {"containerID": uint32, "hostID": uint32, "size": number(1, UINT32)},
        "containerID", "hostID", "size", also=_mapping,
    ),
    also=_no_overlap,
)  # fmt: skip

# -- devices -----------------------------------------------------------------------------------------

_MAJOR, _MINOR = number(0, (1 << 12) - 1), number(0, (1 << 20) - 1)  # dev_t of the kernel


def _device(value: dict[str, Any]) -> None:
    if value["type"] != "p":
        for key in ("major", "minor"):
            if key not in value:
                raise Wrong(f"is missing: a device of type {value['type']} has one").at(key)


_devices = array(
    record(
        {
            "type": choice("type of device", ("b", "c", "p", "u")),
            "path": absolute,
            # An entry of type p has none; callers write 0 or -1 then.
            "major": int64,
            "minor": int64,
            "fileMode": uint32,
            "uid": number(0, UINT32 - 1),
            "gid": number(0, UINT32 - 1),
        },
        "type", "path", also=_device,
    ),
    unique="path",
)  # fmt: skip


def _device_numbers(value: list[dict[str, Any]]) -> None:
    for index, entry in enumerate(value):
        if entry["type"] != "p":
            for key, rule in (("major", _MAJOR), ("minor", _MINOR)):
                try:
                    rule(entry[key])
                except Wrong as wrong:
                    raise wrong.at(index, key) from None


def _all_devices(value: Any) -> None:
    _devices(value)
    _device_numbers(value)


# -- resources ---------------------------------------------------------------------------------------


def _access(value: Any) -> None:
    text(value)
    if not set(value) <= set("rwm"):
        raise Wrong(f"must be made of r, w and m: {shorten(value)}")


def _page_size(value: Any) -> None:
    text(value)
    digits, unit = value[:-2], value[-2:]
    if unit not in ("KB", "MB", "GB") or not (digits.isascii() and digits.isdecimal()):
        raise Wrong(f"not a page size: {shorten(value) or 'it is empty'}", 'write it like "2MB"')


def _cgroup_file(value: Any) -> None:
    text(value)
    if "/" in value or not value.partition(".")[2]:
        raise Wrong("must be the name of a file of cgroup v2, such as memory.high")


_limit64 = number(-1, (1 << 63) - 1)
_throttle = array(
    record({"major": int64, "minor": int64, "rate": uint64}, "major", "minor", "rate")
)
resources = record(
    {
        "devices": array(
            record(
                {
                    "allow": boolean,
                    "type": choice("type of device", ("", "a", "b", "c")),
                    "major": int64,
                    "minor": int64,
                    "access": _access,
                },
                "allow",
            )
        ),
        "memory": record(
            {
                "limit": _limit64,
                "reservation": _limit64,
                "swap": _limit64,
                "kernel": _limit64,
                "kernelTCP": _limit64,
                "swappiness": number(0, 100),
                "disableOOMKiller": boolean,
                "useHierarchy": boolean,
                "checkBeforeUpdate": boolean,
            }
        ),
        "cpu": record(
            {
                "shares": uint64,
                "quota": int64,
                "burst": uint64,
                "period": uint64,
                "realtimeRuntime": int64,
                "realtimePeriod": uint64,
                "cpus": text,
                "mems": text,
                "idle": number(0, 1),
            }
        ),
        "pids": record({"limit": int64}),
        "blockIO": record(
            {
                "weight": uint16,
                "leafWeight": uint16,
                "weightDevice": array(
                    record(
                        {"major": int64, "minor": int64, "weight": uint16, "leafWeight": uint16},
                        "major",
                        "minor",
                    )
                ),
                "throttleReadBpsDevice": _throttle,
                "throttleWriteBpsDevice": _throttle,
                "throttleReadIOPSDevice": _throttle,
                "throttleWriteIOPSDevice": _throttle,
            }
        ),
        "hugepageLimits": array(
            record({"pageSize": _page_size, "limit": uint64}, "pageSize", "limit"),
            unique="pageSize",
        ),
        "network": record(
            {
                "classID": uint32,
                "priorities": array(record({"name": filled, "priority": uint32}, "name", "priority")),
            }
        ),
        "rdma": table(record({"hcaHandles": uint32, "hcaObjects": uint32}), keys=filled),
        "unified": table(text, keys=_cgroup_file),
    }
)  # fmt: skip

# -- sysctl ------------------------------------------------------------------------------------------

# Settings that each IPC namespace has for itself; see namespaces(7).
_IPC_SETTINGS = frozenset(
    prefixed(
        "kernel/",
        """
    msg_next_id msgmax msgmnb msgmni sem sem_next_id shm_next_id shm_rmid_forced shmall shmmax
    shmmni
    """,
    )
)


def sysctl_path(key: str) -> str:
    """The path below /proc/sys of a setting; sysctl.d(5): the first separator is the separator.

    Raises Wrong for a key that cannot be one.
    """
    separator = next((character for character in key if character in "./"), ".")
    path = key if separator == "/" else key.translate({0x2E: "/", 0x2F: "."})
    parts = path.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        raise Wrong("not the name of a kernel setting")
    return path


def _sysctl_namespace(path: str) -> str:
    """The kind of namespace the setting belongs to, "" for one that is the whole machine's."""
    if path in _IPC_SETTINGS or path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    top = path.partition("/")[0]
    return {"net": "network", "user": "user"}.get(top, "")


def _own_settings(settings: dict[str, str], kinds: set[str]) -> None:
    """Only settings of namespaces that the container does not share with the host."""
    for key in settings:
        path = sysctl_path(key)
        if path == "kernel/hostname":
            raise Wrong("cannot be set here", 'use "hostname"').at(key)
        needed = _sysctl_namespace(path)
        if not needed:
            raise Wrong("is a setting of the whole machine, not of a container").at(key)
        if needed not in kinds:
            raise Wrong(
                f"cannot be set: the container shares the host's {needed} namespace",
                f'add {{"type": "{needed}"}} to linux.namespaces',
            ).at(key)


# -- seccomp -----------------------------------------------------------------------------------------

_ACTIONS = prefixed("SCMP_ACT_", "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY")
_ARCHITECTURES = prefixed(
    "SCMP_ARCH_",
    """
    X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE
    S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB
    """,
)
_FLAGS = prefixed("SECCOMP_FILTER_FLAG_", "TSYNC TSYNC_ESRCH LOG SPEC_ALLOW WAIT_KILLABLE_RECV")
_OPERATORS = prefixed("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ")
_action = choice("action", _ACTIONS)
_return = number(0, _MAX_ERRNO)


def _some(value: list[str]) -> None:
    if not value:
        raise Wrong("is empty: it must name a system call")


def _listener(value: dict[str, Any]) -> None:
    rules = value.get("syscalls", ())
    if value["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise Wrong("SCMP_ACT_NOTIFY cannot be the default: the listener could not be sent").at(
            "defaultAction"
        )
    if any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in rules) and not value.get("listenerPath"):
        raise Wrong("is missing: SCMP_ACT_NOTIFY needs a listener").at("listenerPath")


_seccomp = record(
    {
        "defaultAction": _action,
        "defaultErrnoRet": _return,
        "architectures": array(choice("architecture", _ARCHITECTURES, listed=False)),
        "flags": array(choice("flag", _FLAGS)),
        "listenerPath": absolute,
        "listenerMetadata": text,
        "syscalls": array(
            record(
                {
                    "names": array(filled, also=_some),
                    "action": _action,
                    "errnoRet": _return,
                    "args": array(
                        record(
                            {
                                "index": number(0, 5),
                                "value": uint64,
                                "valueTwo": uint64,
                                "op": choice("operator", _OPERATORS),
                            },
                            "index", "value", "op",
                        )
                    ),
                },
                "names", "action",
            )
        ),
    },
    "defaultAction", also=_listener,
)  # fmt: skip

# -- the rest ----------------------------------------------------------------------------------------

PROPAGATIONS = (
    "", "private", "rprivate", "rshared", "rslave", "runbindable", "shared", "slave", "unbindable",
)  # fmt: skip


def _group_name(value: Any) -> None:
    text(value)
    if value in (".", "..") or "/" in value or "\n" in value:
        raise Wrong(f"must be the name of a directory: {shorten(value)}")


def _no_flags(value: list[str]) -> None:
    if value:
        raise Wrong("there are none yet, see config-linux.md")


_clock = record({"secs": int64, "nanosecs": number(0, 999_999_999)})
_CLOCKS = ("boottime", "monotonic")


def _across(value: dict[str, Any]) -> None:
    """What depends on which namespaces there are."""
    kinds = {entry["type"] for entry in value.get("namespaces", ())}
    for key, needed in (("uidMappings", "user"), ("gidMappings", "user"), ("timeOffsets", "time")):
        if value.get(key) and needed not in kinds:
            raise Wrong(
                f"cannot be set: the container shares the host's {needed} namespace",
                f'add {{"type": "{needed}"}} to linux.namespaces',
            ).at(key)
    if settings := value.get("sysctl"):
        try:
            _own_settings(settings, kinds)
        except Wrong as wrong:
            raise wrong.at("sysctl") from None


def _setting(value: Any) -> None:
    text(value)
    sysctl_path(value)


section = record(
    {
        "namespaces": _namespaces,
        "uidMappings": mappings,
        "gidMappings": mappings,
        "devices": _all_devices,
        "cgroupsPath": text,
        "resources": resources,
        "sysctl": table(text, keys=_setting),
        "seccomp": _seccomp,
        "rootfsPropagation": choice("propagation", PROPAGATIONS),
        "maskedPaths": array(absolute),
        "readonlyPaths": array(absolute),
        "mountLabel": text,
        "personality": record(
            {
                "domain": choice("domain", ("LINUX", "LINUX32")),
                "flags": array(text, also=_no_flags),
            },
            "domain",
        ),
        "intelRdt": record(
            {
                "closID": _group_name,
                "l3CacheSchema": text,
                "memBwSchema": text,
                "enableCMT": boolean,
                "enableMBM": boolean,
            }
        ),
        "timeOffsets": table(_clock, keys=choice("clock", _CLOCKS)),
    },
    also=_across,
)
