# SPDX-License-Identifier: Apache-2.0
"""The last steps before the command: names, limits, identity, directory, exec.

Runs between fork and exec, inside the container's root; imports nothing later.
"""

from __future__ import annotations

import _signal
import errno
import os
import resource

from rootless.linux import capability, host, openat2, prctl, process
from rootless.runtime import users
from rootless.runtime.rootfs import Stage, Step, ensure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.idmap import IdMap

_OUTSIDE = "is not a directory inside the container"


class Hostname(Step):
    """What gethostname(2) and getdomainname(2) say."""

    __slots__ = ("domainname", "hostname")
    name = "hostname"

    def __init__(self, hostname: str, domainname: str) -> None:
        super().__init__("own UTS namespace")
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> str:
        return f"{self.hostname} {self.domainname}".strip()

    def execute(self, stage: Stage) -> None:
        if self.hostname:
            host.sethostname(self.hostname)
        if self.domainname:
            host.setdomainname(self.domainname)


class Limits(Step):
    """setrlimit(2): numbers of the resource, soft and hard limit; -1 is unlimited."""

    __slots__ = ("limits",)
    name = "limits"

    def __init__(self, limits: Sequence[tuple[str, int, int, int]], reason: str = "") -> None:
        super().__init__(reason)
        self.limits = limits

    def describe(self) -> str:
        return " ".join(f"{name}={soft}:{hard}" for name, _, soft, hard in self.limits)

    def execute(self, stage: Stage) -> None:
        for name, number, soft, hard in self.limits:
            try:
                resource.setrlimit(number, (soft, hard))
            except (OSError, ValueError):
                allowed = resource.getrlimit(number)[1]
                text = f"may not be raised above your own hard limit of {allowed}"
                raise OSError(errno.EPERM, text, f"{name}={soft}:{hard}") from None


class Identity:
    """Who the command is: user string, groups, capabilities. Executed after the pivot."""

    __slots__ = (
        "additional_groups", "ambient", "bounding", "can_set_groups", "effective", "id_map",
        "inheritable", "no_new_privs", "permitted", "reason", "resolved", "user",
    )  # fmt: skip

    def __init__(self, user: str, id_map: IdMap, reason: str) -> None:
        self.user = user
        self.resolved: users.User | None = None
        self.id_map = id_map
        self.reason = reason
        self.additional_groups: list[int] = []
        self.bounding = self.effective = self.permitted = self.inheritable = self.ambient = 0
        self.no_new_privs = False
        self.can_set_groups = True

    def describe(self) -> str:
        """One line for a person."""
        names = [n for n, number in capability.NUMBERS.items() if self.bounding >> number & 1]
        short = " ".join(name.removeprefix("CAP_").lower() for name in names) or "none"
        flag = ", no new privileges" if self.no_new_privs else ""
        return f"user {self.user or '0'}, capabilities {short}{flag}"

    def resolve(self) -> users.User:
        """Look the user string up inside the container; OSError when it is unknown or unmapped."""
        if self.resolved is None:
            try:
                self.resolved = users.resolve(self.user)
            except users.UnknownUser as problem:
                raise OSError(errno.ENOENT, str(problem)) from None
        user = self.resolved
        if self.id_map.to_host_uid(user.uid) is None:
            raise OSError(errno.EINVAL, f"uid {user.uid} is not mapped into the container")
        if self.id_map.to_host_gid(user.gid) is None:
            raise OSError(errno.EINVAL, f"gid {user.gid} is not mapped into the container")
        return user

    def assume(self, user: users.User) -> None:
        """Become that user with exactly the asked-for capabilities; see capabilities(7)."""
        for number in range(capability.last() + 1):
            if not self.bounding >> number & 1:
                prctl.capbset_drop(number)
        prctl.set_keepcaps(True)
        if self.can_set_groups:
            groups = [*user.groups, *self.additional_groups]
            os.setgroups([gid for gid in groups if self.id_map.to_host_gid(gid) is not None])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        capability.capset(self.effective, self.permitted, self.inheritable)
        # Only what is permitted and inheritable can be ambient; asking for more is no error for other
        # runtimes, whose example configurations do.
        ambient = self.ambient & self.permitted & self.inheritable
        for number in range(ambient.bit_length()):
            if ambient >> number & 1:
                prctl.cap_ambient_raise(number)
        if self.no_new_privs:
            prctl.set_no_new_privs()


class Command:
    """What is executed: arguments, environment, working directory."""

    __slots__ = ("arguments", "create_directory", "directory", "environment")

    def __init__(
        self, arguments: list[str], environment: dict[str, str], directory: str, create: bool
    ) -> None:
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.create_directory = create

    def describe(self) -> str:
        """One line for a person."""
        return " ".join(self.arguments)

    def enter_directory(self) -> None:
        """chdir(2), with proof that it lies inside the root (CVE-2024-21626); made first, as docker does.

        It is never reached through a link of /proc: one to a descriptor that our caller leaked would
        have us make a directory of the host.
        """
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self.create_directory:
                here = ensure(root, self.directory)
            else:
                here = openat2.in_root(root, self.directory, os.O_PATH)
            os.fchdir(here)
        except OSError as problem:
            if problem.errno == errno.ELOOP:
                raise OSError(errno.EXDEV, _OUTSIDE, self.directory) from None
            reason = os.strerror(problem.errno or 0)
            raise OSError(problem.errno, reason, self.directory) from None
        # getcwd(2) says "(unreachable)…" for a directory that only a leaked descriptor reaches.
        if not os.getcwd().startswith("/"):
            raise OSError(errno.EXDEV, _OUTSIDE, self.directory)
        os.close(here)
        os.close(root)

    def find(self) -> str:
        """The file to execute, looked up in the PATH of the container's own environment.

        Raises FileNotFoundError, PermissionError or IsADirectoryError.
        """
        name = self.arguments[0]
        if "/" in name:
            if os.path.isdir(name):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            return name
        denied = False
        path = self.environment.get(
            "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        )
        for directory in path.split(":"):
            candidate = f"{directory or '.'}/{name}"
            if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
                return candidate
            denied = denied or os.path.isfile(candidate)
        if denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        raise FileNotFoundError(errno.ENOENT, "executable file not found in $PATH", name)

    def seal(self, kept: int = 0) -> None:
        """Let the exec leave nothing open but the standard streams and `kept` descriptors after
        them, and no signal ignored. What follows may run behind a system call filter."""
        reset_signals()
        for fd in range(3, 3 + kept):
            os.set_inheritable(fd, True)
        process.close_range(3 + kept, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)

    def execute(self, path: str) -> None:
        """execve(2); returns only by raising."""
        os.execve(path, self.arguments, self.environment)


_INHERITED = (
    _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM,
)  # fmt: skip


def reset_signals() -> None:
    """What Python ignores or handles is not what a command expects to inherit."""
    for number in _INHERITED:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
