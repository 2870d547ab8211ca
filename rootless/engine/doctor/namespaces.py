# SPDX-License-Identifier: Apache-2.0
"""Probes of namespaces: may this user make them, and is the user root in them for real."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.errors import RootlessError
from rootless.linux import mount, namespaces
from rootless.runtime import idmap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RESTRICTS = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


def attempt_in_child(function: Callable[[], object]) -> int:
    """Call `function` in a forked child: 0, or the errno it failed with."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os.write(writing, b"0")
        except OSError as problem:
            os.write(writing, str(problem.errno or errno.EIO).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        answer = os.read(reading, 16)
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
    return int(answer or errno.EIO)


class UserNamespaces(Probe):
    """unshare(CLONE_NEWUSER), then a mount in it: Ubuntu's AppArmor lets the first succeed and not the second."""

    name = "user namespaces"
    topic = "namespaces"
    purpose = "everything: a user is root only inside one"
    essential = True

    def examine(self, host: Host) -> Result:
        number = attempt_in_child(lambda: namespaces.unshare(namespaces.CLONE_NEWUSER))
        if number:
            return self.explain_refusal(host, number)
        try:
            host.attempt(_mount_tmpfs, idmap.host())
        except (OSError, RootlessError) as problem:
            return self._explain_powerless(host, reason(problem))
        limit = host.read("/proc/sys/user/max_user_namespaces")
        return self.ok(f"made one and mounted in it (up to {limit})")

    def explain_refusal(self, host: Host, number: int) -> Result:
        """What unshare(2) failing with errno `number` means on this host."""
        for applies, found, mend in _causes(host, number):
            if applies:
                return self.fail(found, *mend)
        return self.fail(
            f"refused: {os.strerror(number).lower()}; a security module does so, or a chroot",
            f"{host.sudo}dmesg | tail    # tells which security module",
        )

    def _explain_powerless(self, host: Host, why: str) -> Result:
        if host.read(_RESTRICTS) == "1":
            return self.fail(
                f"made one, but AppArmor takes the capabilities in it away: {why}",
                *apparmor_profile(host),
            )
        return self.fail(
            f"made one, but cannot mount in it: {why}",
            "start the outer container with: --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined"
            if is_filtered(host)
            else f"{host.sudo}dmesg | tail    # tells which security module",
        )


def _causes(host: Host, number: int) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """(whether it applies, what is wrong, how to mend it) of each known cause, the surest first."""
    why = os.strerror(number).lower()
    yield (
        host.read("/proc/sys/user/max_user_namespaces") == "0",
        "the sysctl user.max_user_namespaces is 0",
        host.set_sysctl("user.max_user_namespaces=15000"),
    )
    yield (
        host.read("/proc/sys/kernel/unprivileged_userns_clone") == "0",
        "the sysctl kernel.unprivileged_userns_clone is 0",
        host.set_sysctl("kernel.unprivileged_userns_clone=1"),
    )
    yield host.read(_RESTRICTS) == "1", f"AppArmor refuses it: {why}", apparmor_profile(host)
    yield (
        number in (errno.ENOSYS, errno.EINVAL),
        f"this kernel was built without them: {why}",
        ("use a kernel with CONFIG_USER_NS=y",),
    )
    yield (
        is_filtered(host),
        f"a seccomp filter refuses it, as in a container with default settings: {why}",
        (
            "start the outer container with: --security-opt seccomp=unconfined",
            "in Kubernetes: securityContext: {seccompProfile: {type: Unconfined}}",
        ),
    )
    yield (
        number == errno.ENOSPC,
        "too many exist already",
        host.set_sysctl("user.max_user_namespaces=15000"),
    )


class OtherNamespaces(Probe):
    """The namespaces of a container besides user and mount, each made in a child of its own."""

    name = "other namespaces"
    topic = "namespaces"
    purpose = "own processes, network, host name, IPC and cgroup view"
    essential = True
    requires = ("user namespaces",)

    def examine(self, host: Host) -> Result:
        refused = []
        for word in _SYSCTL:
            flags = namespaces.CLONE_NEWUSER | namespaces.BY_NAME[word][0]
            number = attempt_in_child(partial(namespaces.unshare, flags))
            if number:
                refused.append((word, number))
        if not refused:
            return self.ok(", ".join(_SYSCTL))
        named = ", ".join(f"{word} ({os.strerror(number).lower()})" for word, number in refused)
        mend = [
            line
            for word, _ in refused
            for line in host.set_sysctl(f"user.max_{_SYSCTL[word]}_namespaces=15000")
            if host.read(f"/proc/sys/user/max_{_SYSCTL[word]}_namespaces") == "0"
        ]
        return self.fail(f"refused: {named}", *mend)


# The runtime specification's words, and those of the sysctls user.max_*_namespaces.
_SYSCTL = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


class ProcMount(Probe):
    """A fresh /proc in a new PID namespace; the kernel refuses it where the outer /proc is masked."""

    name = "own /proc"
    topic = "namespaces"
    purpose = "ps and all that reads /proc inside a container"
    requires = ("user namespaces",)

    def examine(self, host: Host) -> Result:
        try:
            host.attempt(_mount_proc)
        except (OSError, RootlessError) as problem:
            return self.fail(
                f"cannot mount proc: {reason(problem)}; parts of the outer /proc are masked",
                "start the outer container with: --security-opt systempaths=unconfined",
            )
        return self.ok("mounted one")


def _mount_tmpfs() -> bytes:
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    mount.mount("tmpfs", "/tmp", "tmpfs", mount.MS_NOSUID | mount.MS_NODEV)
    return b""


def _mount_proc() -> bytes:
    namespaces.unshare(namespaces.CLONE_NEWPID)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    number = attempt_in_child(
        lambda: mount.mount(
            "proc", "/tmp", "proc", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        )
    )
    if number:
        raise OSError(number, os.strerror(number))
    return b""


def is_filtered(host: Host) -> bool:
    """Whether we run under a seccomp filter, as in a container; see "Seccomp" in proc_pid_status(5)."""
    status = host.read("/proc/self/status") or ""
    return "\nSeccomp:\t2" in status


def apparmor_profile(host: Host) -> tuple[str, ...]:
    """The lines that let this interpreter make user namespaces on Ubuntu 23.10 and newer."""
    return (
        f"{host.sudo}tee /etc/apparmor.d/rootless <<'END'",
        "abi <abi/4.0>,",
        "include <tunables/global>",
        f"profile rootless {host.interpreter} flags=(unconfined) {{",
        "  userns,",
        "  include if exists <local/rootless>",
        "}",
        "END",
        f"{host.sudo}apparmor_parser -r /etc/apparmor.d/rootless",
    )
