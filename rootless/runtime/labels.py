# SPDX-License-Identifier: Apache-2.0
"""Labels of security modules, as steps: process.apparmorProfile, process.selinuxLabel, linux.mountLabel.

A label that cannot be applied is an error, never silence (CVE-2025-65105). Runs between fork and
exec; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import host
from rootless.runtime import procfs
from rootless.runtime.rootfs import Stage, Step

_SELINUX_MAGIC = 0xF97CFF8C
_SELINUX = "/sys/fs/selinux"
_APPARMOR = "/sys/module/apparmor/parameters/enabled"


class Label:
    """What the next exec of this process is to run under.

    Two steps, because the file has to be opened in a /proc that is surely the kernel's, before the
    pivot, and written last, after the hooks that run in the container: they must not run under it.
    """

    def __init__(self, module: str, label: str) -> None:
        self.module = module  # AppArmor or SELinux
        self.label = label
        self.fd = -1

    def steps(self) -> tuple[Step, Step]:
        """To be executed before the pivot, and right before the exec."""
        return OpenLabel(self), WriteLabel(self)


class OpenLabel(Step):
    """Find the security module, and the file of ours that it reads."""

    __slots__ = ("label",)
    name = "security label"

    def __init__(self, label: Label) -> None:
        super().__init__("asked for")
        self.label = label

    def describe(self) -> str:
        return f"needs {self.label.module}"

    def execute(self, stage: Stage) -> None:
        require(self.label.module)
        proc = procfs.Proc()
        name = "self/attr/exec"
        if self.label.module == "AppArmor":
            try:  # a file of its own since Linux 5.8; the other one may be another module's
                self.label.fd = proc.open("self/attr/apparmor/exec", os.O_WRONLY)
            except FileNotFoundError:
                self.label.fd = proc.open(name, os.O_WRONLY)
        else:
            self.label.fd = proc.open(name, os.O_WRONLY)
        proc.close()


class WriteLabel(Step):
    """Ask for the label; the exec fails if it may not be taken on."""

    __slots__ = ("label",)
    name = "security label"

    def __init__(self, label: Label) -> None:
        super().__init__("asked for")
        self.label = label

    def describe(self) -> str:
        return f"{self.label.module} {self.label.label}"

    def execute(self, stage: Stage) -> None:
        verb = "exec " if self.label.module == "AppArmor" else ""
        try:
            os.write(self.label.fd, os.fsencode(verb + self.label.label))
        except OSError as problem:
            reason = "no such profile" if problem.errno == errno.ENOENT else problem.strerror
            raise OSError(problem.errno, reason, self.label.label) from None
        os.close(self.label.fd)


class Required(Step):
    """A label for mounts was given, so SELinux must be there."""

    __slots__ = ("module",)
    name = "security label"

    def __init__(self, module: str) -> None:
        super().__init__("linux.mountLabel")
        self.module = module

    def describe(self) -> str:
        return f"needs {self.module}"

    def execute(self, stage: Stage) -> None:
        require(self.module)


def require(module: str) -> None:
    """Raise OSError unless the host's kernel has the module and uses it."""
    found = _has_apparmor() if module == "AppArmor" else _has_selinux()
    if not found:
        raise OSError(errno.EOPNOTSUPP, f"this machine does not use {module}")


def _has_apparmor() -> bool:
    try:
        fd = os.open(_APPARMOR, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1) == b"Y"
    finally:
        os.close(fd)


def _has_selinux() -> bool:
    try:
        fd = os.open(_SELINUX, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return host.file_system_type(fd) == _SELINUX_MAGIC
    finally:
        os.close(fd)
