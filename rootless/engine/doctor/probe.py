# SPDX-License-Identifier: Apache-2.0
"""What a probe is: one ability of the host, found out by using it, and the lines that mend it."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from rootless.errors import RootlessError
from rootless.runtime import idmap, userns

if TYPE_CHECKING:
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


@dataclass(frozen=True)
class Result:
    """What a probe found; `mend` are lines to type exactly, or, where there is none, what to do."""

    name: str
    topic: str
    purpose: str
    essential: bool
    status: str
    found: str
    mend: tuple[str, ...] = ()


class Probe:
    """One ability of the host.

    `name` is what it is called in the table, `purpose` what containers need it for; without an
    `essential` one no container runs. It is not tried without those it `requires`, which would only
    tell the same failure again.
    """

    name: ClassVar[str]
    topic: ClassVar[str]
    purpose: ClassVar[str]
    essential: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ()

    def examine(self, host: Host) -> Result:
        """Try the ability. What goes wrong is the result, never an exception for the caller."""
        raise NotImplementedError

    def ok(self, found: str) -> Result:
        """The ability is there."""
        return self._result(OK, found)

    def warn(self, found: str, *mend: str) -> Result:
        """Containers run without it, less well."""
        return self._result(WARN, found, mend)

    def fail(self, found: str, *mend: str) -> Result:
        """It is not there; if it is essential, no container runs."""
        return self._result(FAIL, found, mend)

    def skip(self, found: str) -> Result:
        """It was not tried."""
        return self._result(SKIP, found)

    def _result(self, status: str, found: str, mend: tuple[str, ...] = ()) -> Result:
        return Result(self.name, self.topic, self.purpose, self.essential, status, found, mend)


class Host:
    """This machine as its probes see it.

    `root` stands before every path that is only read (tests give a directory of their own); what is
    tried is always tried on the real kernel.
    """

    def __init__(
        self, paths: Paths, *, root: str = "", environ: dict[str, str] | None = None
    ) -> None:
        self.paths = paths
        self.root = root
        self.environ = dict(os.environ) if environ is None else environ
        self.results: dict[str, Result] = {}
        self.uid = os.getuid()
        self.interpreter = os.path.realpath(sys.executable)

    @cached_property
    def user(self) -> str:
        """The caller's login name, or the uid where passwd(5) has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @cached_property
    def sudo(self) -> str:
        """What stands before a line that only root may run."""
        return "" if self.uid == 0 else "sudo "

    @cached_property
    def id_map(self) -> IdMap:
        """The map containers get here: with subordinate ids if that works, else one id."""
        chosen = idmap.default()
        if not chosen.is_single:
            try:
                userns.call(chosen, lambda: b"")
            except (RootlessError, OSError):
                return idmap.host()
        return chosen

    def read(self, path: str) -> str | None:
        """The text of a file of the host without surrounding space, or None if it cannot be read."""
        try:
            with open(self.root + path, encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def is_ok(self, name: str) -> bool:
        """Whether an earlier probe found that ability."""
        return name in self.results and self.results[name].status == OK

    def attempt(self, function: Callable[[], bytes], id_map: IdMap | None = None) -> str:
        """Run `function` as root of a user namespace with its own mounts; what it returned, as text.

        Raises OSError or RootlessError as the function, or the making of the namespace, does.
        """
        return userns.call(id_map or self.id_map, function, isolated=False).decode()

    def install(self, package: str) -> str:
        """The line that installs a package, in the words of this distribution."""
        release = self.read("/etc/os-release") or ""
        fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
        family = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
        for names, command, renamed in _PACKAGE_MANAGERS:
            if set(names) & set(family):
                return f"{self.sudo}{command} {renamed.get(package, package)}"
        return f"install the package {package}"

    def set_sysctl(self, assignment: str) -> tuple[str, ...]:
        """The lines that set a sysctl now and at every boot."""
        return (
            f"{self.sudo}sysctl -w '{assignment}'",
            f"echo '{assignment}' | {self.sudo}tee -a /etc/sysctl.d/90-rootless.conf",
        )


_PACKAGE_MANAGERS: Sequence[tuple[tuple[str, ...], str, dict[str, str]]] = (
    (("debian", "ubuntu"), "apt-get install", {}),
    (("fedora", "rhel", "centos"), "dnf install", {"uidmap": "shadow-utils"}),
    (("suse", "opensuse", "sles"), "zypper install", {"uidmap": "shadow"}),
    (("arch",), "pacman -S", {"uidmap": "shadow"}),
    (("alpine",), "apk add", {"uidmap": "shadow-uidmap"}),
)


def reason(problem: Exception) -> str:
    """An exception as the end of a sentence."""
    if isinstance(problem, RootlessError):
        return problem.message
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno).lower()
    return str(problem)
