# SPDX-License-Identifier: Apache-2.0
"""Probes of cgroups(7): which hierarchy there is, and what of it is ours to limit containers with."""

from __future__ import annotations

import os
import socket

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.engine.doctor.storage import file_system_of

_MOUNT = "/sys/fs/cgroup"
_WANTED = ("cpu", "memory", "pids")
_BOOT = "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot"


def own_cgroup(host: Host) -> str:
    """The directory of the cgroup v2 we are in, or "" where there is no such hierarchy."""
    for line in (host.read("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return _MOUNT + line[3:].rstrip("/")
    return ""


def is_ours(directory: str) -> bool:
    """Whether a child cgroup can be made in `directory`: tried, because that is what delegation means."""
    child = f"{directory}/rootless-doctor-{os.getpid()}"
    try:
        os.mkdir(child)
        os.rmdir(child)
    except OSError:
        return False
    return os.access(directory + "/cgroup.procs", os.W_OK)


class CgroupVersion(Probe):
    """The hierarchy at /sys/fs/cgroup; only version 2 can be given to a user."""

    name = "cgroups"
    topic = "limits"
    purpose = "--memory, --cpus and --pids-limit"

    def examine(self, host: Host) -> Result:
        kind, point = file_system_of(host, _MOUNT)
        if not point.startswith(_MOUNT):
            return self.warn(
                f"nothing is mounted at {_MOUNT}",
                f"{host.sudo}mount -t cgroup2 cgroup2 {_MOUNT}",
            )
        if kind == "cgroup2":
            return self.ok("version 2")
        mounts = host.read("/proc/self/mountinfo") or ""
        if " - cgroup2 " in mounts:
            return self.warn("hybrid: version 2 without controllers, they are in version 1", _BOOT)
        return self.warn("version 1, which a user cannot be given a part of", _BOOT)


class Delegation(Probe):
    """The controllers in a cgroup we may divide: our own, or that of our systemd user manager."""

    name = "delegated controllers"
    topic = "limits"
    purpose = "--memory, --cpus and --pids-limit"
    requires = ("cgroups",)

    def examine(self, host: Host) -> Result:
        for directory, what in (
            (own_cgroup(host), "own cgroup"),
            (self._manager(host), "systemd user manager"),
        ):
            if directory and is_ours(directory):
                return self._judge(host, directory, what)
        return self.warn(
            f"none: {own_cgroup(host) or _MOUNT} belongs to somebody else",
            "systemd-run --user --scope -p Delegate=yes $SHELL    # in a login session",
            f"{host.sudo}loginctl enable-linger {host.user}    # without one",
        )

    def _manager(self, host: Host) -> str:
        return f"{_MOUNT}/user.slice/user-{host.uid}.slice/user@{host.uid}.service"

    def _judge(self, host: Host, directory: str, what: str) -> Result:
        controllers = (host.read(directory + "/cgroup.controllers") or "").split()
        missing = [name for name in _WANTED if name not in controllers]
        listed = f"{what}: {', '.join(controllers) or 'none'}"
        if not missing:
            return self.ok(listed)
        return self.warn(
            f"{listed}; not {', '.join(missing)}",
            f"{host.sudo}mkdir -p /etc/systemd/system/user@.service.d",
            f"{host.sudo}tee /etc/systemd/system/user@.service.d/delegate.conf <<'END'",
            "[Service]",
            "Delegate=cpu cpuset io memory pids",
            "END",
            f"{host.sudo}systemctl daemon-reload    # then log out and in again",
        )


class UserSession(Probe):
    """The D-Bus socket of the systemd user manager, connected to."""

    name = "systemd user session"
    topic = "limits"
    purpose = "a cgroup of its own for a container where ours is not delegated"

    def examine(self, host: Host) -> Result:
        linger = f"{host.sudo}loginctl enable-linger {host.user}    # then log in again"
        if not os.path.isdir("/run/systemd/system"):
            return self.warn(
                "this machine was not booted with systemd; a delegated cgroup does as well"
            )
        runtime = host.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{host.uid}"
        problem = "no socket"
        for name in ("/systemd/private", "/bus"):
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(2)
                    connection.connect(runtime + name)
                return self.ok(runtime + name)
            except OSError as failure:
                problem = reason(failure)
        return self.warn(
            f"cannot connect to {runtime}/bus: {problem}", host.install("dbus-user-session"), linger
        )
