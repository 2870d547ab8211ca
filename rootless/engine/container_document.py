# SPDX-License-Identifier: Apache-2.0
"""The document `inspect` shows of a container, in the shape of docker's; reads, changes nothing.

What docker's keys mean is in the Docker Engine API, "ContainerInspect"; the facts come from
container.json and from the OCI config.json the container was made with.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rootless.errors import Invalid
from rootless.oci import document

if TYPE_CHECKING:
    from rootless.engine.containers import Container
    from rootless.paths import Paths

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
# Mounts every container has; docker's Mounts are the ones somebody asked for.
_STANDARD = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def container_document(paths: Paths, container: Container) -> dict[str, Any]:
    """What `rootless inspect` prints of one container."""
    directory = paths.container(container.id)
    config = _load(directory + "/config.json")
    process = config.get("process") or {}
    arguments = process.get("args") or [*container.command]
    return {
        "Id": container.id,
        "Created": timestamp(container.created),
        "Path": arguments[0] if arguments else "",
        "Args": arguments[1:],
        "State": _state(container),
        "Image": container.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": "/" + container.name,
        "RestartCount": 0,
        "Driver": container.record.get("driver") or "",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(container, config),
        "GraphDriver": {
            "Name": container.record.get("driver") or "",
            "Data": {"UpperDir": directory + "/upper", "WorkDir": directory + "/work"},
        },
        "Mounts": [_mount(item) for item in _requested_mounts(config)],
        "Config": _config(container, config),
        "NetworkSettings": {"Networks": {_network(config): {}}, "Ports": {}},
        "IdMap": container.record.get("id_map") or "",
        "Annotations": container.record.get("annotations") or {},
    }


def timestamp(epoch: float | None) -> str:
    """Seconds since 1970 as RFC 3339 with nanoseconds in UTC; None is Go's zero time."""
    if epoch is None:
        return _NEVER
    seconds, nanoseconds = divmod(round(epoch * 1_000_000) * 1000, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def _state(container: Container) -> dict[str, Any]:
    return {
        "Status": container.status,
        "Running": container.is_running,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": bool(container.record.get("oom_killed")),
        "Dead": False,
        "Pid": container.pid,
        "ExitCode": container.exit_code,
        "Error": "",
        "StartedAt": timestamp(container.started),
        "FinishedAt": timestamp(container.finished),
    }


def _load(path: str) -> dict[str, Any]:
    """The OCI configuration, {} when it is gone or damaged: the record still tells most of it."""
    try:
        found = document.load(path)
    except (OSError, Invalid):
        return {}
    return found if isinstance(found, dict) else {}


def _config(container: Container, config: dict[str, Any]) -> dict[str, Any]:
    process = config.get("process") or {}
    user = process.get("user") or {}
    is_root = not user.get("uid") and not user.get("gid")
    return {
        "Hostname": config.get("hostname") or "",
        "Domainname": config.get("domainname") or "",
        "User": "" if is_root else f"{user.get('uid', 0)}:{user.get('gid', 0)}",
        "Tty": bool(process.get("terminal")),
        "Env": process.get("env") or [],
        "Cmd": [*container.command],
        "Image": container.image,
        "WorkingDir": process.get("cwd") or "",
        "Entrypoint": None,
        "Labels": container.labels,
    }


def _host_config(container: Container, config: dict[str, Any]) -> dict[str, Any]:
    linux, process = config.get("linux") or {}, config.get("process") or {}
    resources = linux.get("resources") or {}
    cpu = resources.get("cpu") or {}
    mounts = _requested_mounts(config)
    return {
        "Binds": [_bind(item) for item in mounts if item.get("type") == "bind"] or None,
        "NetworkMode": _network(config),
        "AutoRemove": bool(container.record.get("auto_remove")),
        "CapAdd": None,
        "CapDrop": None,
        "Capabilities": sorted((process.get("capabilities") or {}).get("bounding") or []),
        "UsernsMode": "",
        "SecurityOpt": ["no-new-privileges"] if process.get("noNewPrivileges") else None,
        "ReadonlyRootfs": bool((config.get("root") or {}).get("readonly")),
        "Tmpfs": {
            item["destination"]: ",".join(item.get("options") or ())
            for item in mounts
            if item.get("type") == "tmpfs"
        },
        "ShmSize": _shm_size(config),
        "Memory": (resources.get("memory") or {}).get("limit") or 0,
        "NanoCpus": _nano_cpus(cpu.get("quota"), cpu.get("period")),
        "CpuShares": cpu.get("shares") or 0,
        "PidsLimit": (resources.get("pids") or {}).get("limit"),
        "CgroupParent": linux.get("cgroupsPath") or "",
        "Ulimits": [
            {
                "Name": limit["type"].removeprefix("RLIMIT_").lower(),
                "Hard": limit["hard"],
                "Soft": limit["soft"],
            }
            for limit in process.get("rlimits") or ()
        ],
        "MaskedPaths": linux.get("maskedPaths") or [],
        "ReadonlyPaths": linux.get("readonlyPaths") or [],
    }


def _network(config: dict[str, Any]) -> str:
    spaces = (config.get("linux") or {}).get("namespaces") or ()
    own = any(space.get("type") == "network" and not space.get("path") for space in spaces)
    return "none" if own else "host"


def _requested_mounts(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        item
        for item in config.get("mounts") or ()
        if item["destination"] not in _STANDARD
        and not item["destination"].startswith(("/dev/", "/sys/", "/proc/"))
    ]


def _is_writable(item: dict[str, Any]) -> bool:
    return not {"ro", "rro"} & {*(item.get("options") or ())}


def _bind(item: dict[str, Any]) -> str:
    mode = "" if _is_writable(item) else ":ro"
    return f"{item.get('source', '')}:{item['destination']}{mode}"


def _mount(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type") or "bind"
    propagations = ("rprivate", "private", "rslave", "slave", "rshared", "shared")
    given = item.get("options") or ()
    return {
        "Type": kind,
        "Source": item.get("source", "") if kind == "bind" else "",
        "Destination": item["destination"],
        "Mode": "" if _is_writable(item) else "ro",
        "RW": _is_writable(item),
        "Propagation": next((name for name in propagations if name in given), "rprivate")
        if kind == "bind"
        else "",
    }


def _shm_size(config: dict[str, Any]) -> int:
    """The size of /dev/shm in bytes from its mount option, with the suffixes of tmpfs(5)."""
    for item in config.get("mounts") or ():
        if item["destination"] == "/dev/shm":
            for option in item.get("options") or ():
                if option.startswith("size="):
                    return _tmpfs_size(option[5:])
    return 0


def _tmpfs_size(text: str) -> int:
    shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isdecimal() else 0


def _nano_cpus(quota: int | None, period: int | None) -> int:
    return quota * 1_000_000_000 // period if quota and quota > 0 and period else 0
