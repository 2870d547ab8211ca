# SPDX-License-Identifier: Apache-2.0
"""The example configuration that `rootless-oci spec` writes: the one of runc, as data."""

from __future__ import annotations

import os
from typing import Any

from rootless.runtime.state import OCI_VERSION

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_TTY_GROUP = 5


def default(*, rootless: bool = False) -> dict[str, Any]:
    """A shell on a terminal, in the directory `rootfs`.

    With `rootless` in a user namespace in which the caller is root and alone: the host's network,
    and nothing that needs a second id or a cgroup of one's own.
    """
    kinds = ["pid", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READONLY),
    }
    if rootless:
        kinds.append("user")
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        kinds.insert(1, "network")
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "rootless",
        "mounts": _mounts(rootless),
        "linux": linux,
    }


def _process() -> dict[str, Any]:
    # No inheritable and so no ambient ones: only what root itself needs (CVE-2022-29162).
    sets = {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ],
        "cwd": "/",
        "capabilities": sets,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    system = ["nosuid", "noexec", "nodev", "ro"]
    if not rootless:
        terminals.append(f"gid={_TTY_GROUP}")
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", terminals),
        _mount("/dev/shm", "tmpfs", "shm", [*system[:3], "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", system[:3]),
        # A new sysfs belongs to a network namespace, which has to be ours.
        _mount("/sys", "none", "/sys", ["rbind", *system])
        if rootless
        else _mount("/sys", "sysfs", "sysfs", system),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*system[:3], "relatime", "ro"]),
    ]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}
