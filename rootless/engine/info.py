# SPDX-License-Identifier: Apache-2.0
"""Facts about this machine and this store, in docker's words; probing is the doctor's."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from rootless import __version__
from rootless.engine import containers
from rootless.engine.doctor.cgroups import CgroupVersion, own_cgroup
from rootless.engine.doctor.probe import Host
from rootless.engine.doctor.storage import file_system_of, nearest_directory
from rootless.engine.version import python_version
from rootless.errors import RootlessError
from rootless.images import records
from rootless.runtime import idmap
from rootless.storage import store, union

if TYPE_CHECKING:
    from rootless.paths import Paths


def info(paths: Paths) -> dict[str, Any]:
    """What `rootless info` tells. Abilities that are missing become warnings, never exceptions."""
    host = Host(paths)
    found = containers.list(paths)
    running = sum(item.is_running for item in found)
    id_map = idmap.default()
    warnings: list[str] = []
    driver, reason = _driver(paths, warnings)
    cgroups = CgroupVersion().examine(host)
    if cgroups.status != "ok":
        warnings.append(f"no limits: cgroups: {cgroups.found}")
    if id_map.is_single:
        warnings.append(f"one id in containers: {id_map.source}")
    return {
        "Version": __version__,
        "Containers": len(found),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": len(found) - running,
        "Images": len(records.list_images(paths)),
        "Driver": driver,
        "DriverReason": reason,
        "StoreDirectory": paths.data,
        "StoreFileSystem": file_system_of(host, nearest_directory(paths.data))[0],
        "RuntimeDirectory": paths.run,
        "CgroupVersion": "2" if cgroups.status == "ok" else "1",
        "Cgroup": own_cgroup(host),
        "CgroupControllers": (host.read(own_cgroup(host) + "/cgroup.controllers") or "").split(),
        "UidMap": [{"Inside": i, "Outside": o, "Count": c} for i, o, c in id_map.uids],
        "GidMap": [{"Inside": i, "Outside": o, "Count": c} for i, o, c in id_map.gids],
        "IdMapSource": id_map.source,
        "SecurityOptions": ["name=seccomp", "name=rootless"],
        **_machine(host),
        "Warnings": warnings,
    }


def _driver(paths: Paths, warnings: list[str]) -> tuple[str, str]:
    try:
        store.ensure(paths)
        return union.choose(paths, idmap.default())
    except (RootlessError, OSError) as problem:
        warnings.append(str(problem))
        return "", ""


def _machine(host: Host) -> dict[str, Any]:
    here = os.uname()
    release = platform.freedesktop_os_release() if os.path.exists("/etc/os-release") else {}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "KernelVersion": here.release,
        "OperatingSystem": release.get("PRETTY_NAME") or here.sysname,
        "OSType": "linux",
        "Architecture": here.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": memory,
        "Name": here.nodename,
        "User": host.user,
        "PythonVersion": python_version(),
        "Interpreter": host.interpreter,
    }
