# SPDX-License-Identifier: Apache-2.0
"""What somebody wants run: docker's flags with their values understood, and nothing decided yet. Hot."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Request:
    """One `run`. Fields have docker's names and defaults; sizes are bytes."""

    __slots__ = (
        "add_host", "annotations", "apparmor", "auto_remove", "cap_add", "cap_drop", "cidfile", "command",
        "cpus", "domainname", "entrypoint", "env", "hostname", "image", "init", "interactive",
        "labels", "landlock", "memory", "mounts", "name", "network", "no_new_privileges", "pids_limit",
        "platform", "pull", "quiet", "read_only", "rlimits", "rootfs", "seccomp", "shm_size",
        "storage_driver", "tty", "unmask", "unset", "user", "userns", "workdir",
    )  # fmt: skip

    def __init__(self, image: str, command: list[str]) -> None:
        self.image = image  # as typed; "" with rootfs
        self.command = command
        self.rootfs = ""  # a directory to run instead of an image
        self.name = ""
        self.auto_remove = False
        self.tty = False
        self.interactive = False
        self.init = False
        self.quiet = False
        self.entrypoint: str | None = None  # "" clears the image's
        self.env: list[str] = []  # KEY=VALUE
        self.unset: list[str] = []  # keys to leave out
        self.user = ""
        self.workdir = ""
        self.hostname = ""
        self.domainname = ""
        self.add_host: list[str] = []  # lines of hosts(5)
        self.network = "none"
        self.userns = ""
        self.cap_add: list[str] = []
        self.cap_drop: list[str] = []
        self.no_new_privileges = False
        self.seccomp = "default"  # or unconfined, or a profile's file
        self.landlock = ""  # rules of runtime.landlock
        self.apparmor = ""  # a profile's name
        self.unmask = False  # leave the kernel's paths as they are
        self.read_only = False
        self.rlimits: list[dict[str, Any]] = []  # the runtime specification's process.rlimits
        self.shm_size = 64 << 20
        self.mounts: list[dict[str, Any]] = []  # the runtime specification's mounts
        self.memory = 0
        self.cpus = 0.0
        self.pids_limit = 0
        self.pull = "missing"
        self.platform = ""
        self.cidfile = ""
        self.labels: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.storage_driver = ""
