# SPDX-License-Identifier: Apache-2.0
"""Probes of subordinate ids: subuid(5), subgid(5), and the programs that map them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.errors import RootlessError
from rootless.runtime import idmap, userns

if TYPE_CHECKING:
    from typing import ClassVar

    Entry = tuple[str, int, int]  # owner, first id, count

_ENOUGH = 65536  # images use uids up to 65534 (nobody)


class SubordinateIds(Probe):
    """The caller's ranges in one of the two files, by name or uid; too few, or shared, is a warning."""

    topic = "ids"
    purpose = "images with more than one user or group"
    path: ClassVar[str]
    flag: ClassVar[str]

    def examine(self, host: Host) -> Result:
        text = host.read(self.path)
        entries = _entries(text)
        names = (host.user, str(host.uid))
        own = [entry for entry in entries if entry[0] in names]
        add = f"{host.sudo}usermod {self.flag} {_free_range(entries)} {host.user}"
        if not own:
            return self.warn(
                f"no entry for {host.user} in {self.path}: containers have one id", add
            )
        listed = ", ".join(f"{first}-{first + count - 1}" for _, first, count in own)
        total = sum(count for _, _, count in own)
        shared = [
            other[0]
            for other in entries
            for mine in own
            if other[0] not in names and _overlap(mine, other)
        ]
        if shared:
            return self.warn(
                f"{listed} is shared with {', '.join(sorted(set(shared)))}, who can touch your files",
                f"{host.sudo}$EDITOR {self.path}    # give every user a range of their own",
            )
        if total < _ENOUGH:
            return self.warn(f"{listed}: only {total} ids, some images need {_ENOUGH}", add)
        return self.ok(f"{listed} ({total} ids)")


class SubordinateUids(SubordinateIds):
    """The ranges of user ids."""

    name = "/etc/subuid"
    path = "/etc/subuid"
    flag = "--add-subuids"


class SubordinateGids(SubordinateIds):
    """The ranges of group ids."""

    name = "/etc/subgid"
    path = "/etc/subgid"
    flag = "--add-subgids"


class MappingPrograms(Probe):
    """newuidmap and newgidmap: there, with the privilege they need, and able to map a child of ours."""

    name = "newuidmap, newgidmap"
    topic = "ids"
    purpose = "mapping subordinate ids"

    def examine(self, host: Host) -> Result:
        for program in ("newuidmap", "newgidmap"):
            path = idmap.find_program(program)
            if not path:
                return self.warn(f"{program} is not installed", host.install("uidmap"))
            problem = _privilege_problem(path)
            if problem:
                return self.warn(f"{path} {problem}", f"{host.sudo}chmod u+s {path}")
        chosen = idmap.default()
        if chosen.is_single:
            return self.warn("installed, but there are no subordinate ids to map")
        try:
            userns.call(chosen, _count_mapped)
        except (OSError, RootlessError) as problem:
            return self.warn(f"mapping a child failed: {reason(problem)}", *self._causes(host))
        return self.ok("mapped a child")

    def _causes(self, host: Host) -> tuple[str, ...]:
        status = host.read("/proc/self/status") or ""
        if "\nNoNewPrivs:\t1" in status:
            return ("start from a session without no_new_privs: setuid programs are disabled here",)
        return (f"{host.install('uidmap')}    # and see that /usr is not mounted nosuid",)


def _count_mapped() -> bytes:
    """Prove the map by becoming an id of it that only newuidmap could have mapped."""
    os.setresgid(1, 1, 1)
    os.setresuid(1, 1, 1)
    return b""


def _privilege_problem(path: str) -> str:
    found = os.stat(path)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return "is on a file system mounted nosuid"
    is_setuid = bool(found.st_mode & stat.S_ISUID) and found.st_uid == 0
    if is_setuid or "security.capability" in os.listxattr(path):
        return ""
    return "is neither setuid root nor has file capabilities"


def _entries(text: str | None) -> list[Entry]:
    entries = []
    for line in (text or "").splitlines():
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner and first.isdecimal() and count.isdecimal():
            entries.append((owner, int(first), int(count)))
    return entries


def _overlap(one: Entry, other: Entry) -> bool:
    return one[1] < other[1] + other[2] and other[1] < one[1] + one[2]


def _free_range(entries: list[Entry]) -> str:
    """The first range of 65536 ids from 100000 on that nobody has."""
    first = 100_000
    for _, start, count in sorted(entries, key=lambda entry: entry[1]):
        if start < first + _ENOUGH and first < start + count:
            first = start + count
    return f"{first}-{first + _ENOUGH - 1}"
