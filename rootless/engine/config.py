# SPDX-License-Identifier: Apache-2.0
"""What docker's flags and an image's config say, as an OCI runtime configuration. Hot; no I/O."""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.linux import capability

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.request import Request

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Docker's fourteen without MKNOD, NET_RAW and AUDIT_WRITE, which a user namespace makes useless
# or the host's problem.
CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip

# The union of what moby and podman hide.
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware",
    "/sys/fs/selinux",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def build(
    request: Request, image: dict[str, Any], container_id: str, tty_mapped: bool
) -> dict[str, Any]:
    """The configuration of one container; `image` is the image's "config" object.

    `tty_mapped` says whether gid 5 exists inside, the owner Linux gives terminals.
    Raises UsageError for what cannot be meant.
    """
    hostname = request.hostname or container_id[:12]
    own_network = request.network != "host"
    kinds = ["user", "mount", "pid", "ipc", "uts", "cgroup"]
    if own_network:
        kinds.append("network")
    config: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": request.tty,
            "args": _arguments(request, image),
            "env": _environment(request, image, hostname),
            "cwd": _working_directory(request, image),
            "capabilities": capabilities(request.cap_add, request.cap_drop),
            "noNewPrivileges": request.no_new_privileges,
            "rlimits": request.rlimits,
        },
        "root": {"path": "rootfs", "readonly": request.read_only},
        "hostname": hostname,
        "domainname": request.domainname,
        "mounts": standard_mounts(own_network, request.shm_size, tty_mapped),
        "annotations": request.annotations,
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": [] if request.unmask else masked(),
            "readonlyPaths": [] if request.unmask else list(READONLY),
        },
    }
    if request.apparmor:
        config["process"]["apparmorProfile"] = request.apparmor
    return config


_HEAT = "/sys/devices/system/cpu/cpu%d/thermal_throttle"


def masked() -> list[str]:
    """What is hidden: MASKED, and how often each processor grew too hot, a side channel."""
    if not os.path.exists(_HEAT % 0):
        return list(MASKED)  # a virtual machine, or another architecture
    return [*MASKED, *(_HEAT % n for n in range(os.sysconf("SC_NPROCESSORS_CONF")))]


def standard_mounts(own_network: bool, shm_size: int, tty_mapped: bool) -> list[dict[str, Any]]:
    """What every container finds mounted: docker's list."""
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if tty_mapped:
        terminals.append("gid=5")
    mounts = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", terminals),
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"],
        ),
    ]
    if own_network:
        mounts.append(_mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]))
    else:
        # A new sysfs shows the network devices of a namespace that must be ours.
        mounts.append(_mount("/sys", "bind", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"]))
    mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"]))
    return mounts


REASONS = {
    "/proc": "own pid namespace",
    "/dev": "standard",
    "/dev/pts": "own terminals",
    "/dev/mqueue": "own IPC namespace",
    "/dev/shm": "own IPC namespace",
    "/sys": "own network namespace",
    "/sys/fs/cgroup": "own cgroup namespace",
}


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _arguments(request: Request, image: dict[str, Any]) -> list[str]:
    """ENTRYPOINT and CMD with docker's rule: a new entrypoint forgets the image's CMD."""
    if request.entrypoint is not None:
        entrypoint = [request.entrypoint] if request.entrypoint else []
        command = request.command
    else:
        entrypoint = image.get("Entrypoint") or []
        command = request.command or image.get("Cmd") or []
    arguments = [*entrypoint, *command]
    if not arguments:
        raise UsageError(
            f"no command specified, and {request.image or 'the directory'} names none",
            hint="give a command after the image",
        )
    if any("\0" in argument for argument in arguments):
        raise UsageError("the command holds a NUL character")
    return arguments


def _environment(request: Request, image: dict[str, Any], hostname: str) -> list[str]:
    """PATH and friends, then the image's, then the user's; the last one given wins."""
    merged = {"PATH": PATH, "HOSTNAME": hostname}
    if request.tty:
        merged["TERM"] = "xterm"
    for entry in (*(image.get("Env") or ()), *request.env):
        key, _, value = entry.partition("=")
        if "\0" in entry:
            raise UsageError(f"the environment variable {key!r} holds a NUL character")
        merged[key] = value
    for key in request.unset:
        merged.pop(key, None)
    return [f"{key}={value}" for key, value in merged.items()]


def _working_directory(request: Request, image: dict[str, Any]) -> str:
    directory = request.workdir or image.get("WorkingDir") or "/"
    if not directory.startswith("/"):
        if request.workdir:
            raise UsageError(
                f"the working directory '{directory}' is not an absolute path",
                hint=f"use -w /{directory}",
            )
        directory = "/" + directory
    return directory


def capabilities(add: list[str], drop: list[str]) -> dict[str, list[str]]:
    """The sets for process.capabilities after --cap-add and --cap-drop; ALL is understood.

    Inheritable and ambient stay empty: a non-root program must not get any by executing a file
    (CVE-2022-24769).
    """
    adding = [_capability(name) for name in add]
    dropping = [_capability(name) for name in drop]
    names = set(capability.NAMES) if "ALL" in adding else set(CAPABILITIES)
    if "ALL" in dropping:
        names = set() if "ALL" not in adding else names
    names -= {name for name in dropping if name != "ALL"}
    if "ALL" not in adding:
        names |= set(adding)  # last: docker's --cap-add wins over a --cap-drop of the same
    kept = [name for name in capability.NAMES if name in names]
    return {"bounding": kept, "effective": kept, "permitted": kept}


def _capability(text: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else "CAP_" + name
    if name not in capability.NUMBERS:
        raise UsageError(
            f"no such capability: {text}", hint="capabilities(7) lists them, such as NET_RAW"
        )
    return name
