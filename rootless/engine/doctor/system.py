# SPDX-License-Identifier: Apache-2.0
"""Probes of the interpreter, the session and what confines containers."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib import util

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.linux import libc
from rootless.runtime import idmap

_LANDLOCK_CREATE_RULESET_VERSION = 1
_landlock_create_ruleset = libc.declare_syscall(444, libc.Bytes, libc.Long, libc.Long)


class Python(Probe):
    """The interpreter's version."""

    name = "Python"
    topic = "system"
    purpose = "rootless itself"
    essential = True

    def examine(self, host: Host) -> Result:
        text = f"{platform.python_version()} at {host.interpreter}"
        return (
            self.ok(text)
            if sys.version_info >= (3, 11)
            else self.fail(text, "use Python 3.11 or newer")
        )


class Libraries(Probe):
    """The libraries the package depends on, found but not loaded."""

    name = "libraries"
    topic = "system"
    purpose = "pull, load and progress bars"

    def examine(self, host: Host) -> Result:
        wanted = ("isal", "rich", "sh", "urllib3", "yaml", "zstandard")
        missing = [name for name in wanted if util.find_spec(name) is None]
        if missing:
            return self.warn(
                f"not found: {', '.join(missing)}",
                f"{sys.executable} -m pip install {' '.join(missing)}",
            )
        return self.ok(", ".join(wanted))


class Kernel(Probe):
    """The kernel's release."""

    name = "kernel"
    topic = "system"
    purpose = "mounts by descriptor, overlay in a user namespace"
    essential = True

    def examine(self, host: Host) -> Result:
        release = os.uname().release
        numbers = release.split("-")[0].split(".")
        version = (int(numbers[0]), int(numbers[1]))
        if version < (5, 12):
            return self.fail(
                f"Linux {release}: mount_setattr(2) is missing", "use Linux 5.12 or newer"
            )
        return self.ok(f"Linux {release}")


class Helpers(Probe):
    """Our own native programs, in the package's bin directory."""

    name = "own programs"
    topic = "system"
    purpose = "run --init"

    def examine(self, host: Host) -> Result:
        directory = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "bin")
        wanted = ("init",)
        missing = [name for name in wanted if not os.access(f"{directory}/{name}", os.X_OK)]
        if missing:
            compiler = () if idmap.find_program("cc") else (host.install("gcc"),)
            install = f"{sys.executable} -m pip install --force-reinstall --no-deps rootless"
            return self.warn(f"not in {directory}: {', '.join(missing)}", *compiler, install)
        return self.ok(directory)


class RuntimeDirectory(Probe):
    """The directory of sockets and states: ours alone, local, and gone after a reboot."""

    name = "runtime directory"
    topic = "system"
    purpose = "what is known of running containers"
    essential = True

    def examine(self, host: Host) -> Result:
        run = host.paths.run
        try:
            os.makedirs(run, mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=run):
                pass
        except OSError as problem:
            return self.fail(
                f"cannot write in {run}: {reason(problem)}",
                "export ROOTLESS_RUN=/a/directory/of/yours",
            )
        if os.stat(run).st_uid != host.uid:
            return self.fail(
                f"{run} belongs to somebody else", "export ROOTLESS_RUN=/a/directory/of/yours"
            )
        if run.startswith("/tmp/") and os.path.isdir("/run/systemd/system"):
            return self.warn(
                f"{run}, as there is no XDG_RUNTIME_DIR",
                f"{host.sudo}loginctl enable-linger {host.user}    # then log in again",
            )
        return self.ok(run)


class Seccomp(Probe):
    """Filters of system calls; see seccomp(2)."""

    name = "seccomp"
    topic = "security"
    purpose = "keeping containers from rare system calls"

    def examine(self, host: Host) -> Result:
        actions = host.read("/proc/sys/kernel/seccomp/actions_avail")
        if not actions or "errno" not in actions:
            return self.warn(
                "this kernel has no filters", "use a kernel with CONFIG_SECCOMP_FILTER=y"
            )
        return self.ok("filters")


class Landlock(Probe):
    """landlock_create_ruleset(2), asked for its version; it needs no privilege."""

    name = "Landlock"
    topic = "security"
    purpose = "a second wall around files"

    def examine(self, host: Host) -> Result:
        try:
            version = libc.check(
                _landlock_create_ruleset(None, 0, _LANDLOCK_CREATE_RULESET_VERSION), "landlock"
            )
        except OSError as problem:
            return self.warn(
                f"not here: {reason(problem)}",
                "use a kernel with CONFIG_SECURITY_LANDLOCK=y and lsm=...,landlock",
            )
        return self.ok(f"ABI {version}")
