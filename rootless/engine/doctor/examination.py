# SPDX-License-Identifier: Apache-2.0
"""All probes in the order they are made, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rootless.engine.doctor import cgroups, ids, namespaces, network, storage, system
from rootless.engine.doctor.probe import FAIL, WARN, Host, Result, reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless.engine.doctor.probe import Probe

# A probe may look at the results of those before it.
PROBES: tuple[Probe, ...] = (
    system.Python(),
    system.Libraries(),
    system.Kernel(),
    system.Helpers(),
    system.RuntimeDirectory(),
    namespaces.UserNamespaces(),
    namespaces.OtherNamespaces(),
    namespaces.ProcMount(),
    ids.SubordinateUids(),
    ids.SubordinateGids(),
    ids.MappingPrograms(),
    storage.Store(),
    storage.FileSystem(),
    storage.FreeSpace(),
    storage.UserXattrs(),
    storage.Whiteout(),
    storage.Overlay(),
    storage.FuseOverlay(),
    cgroups.CgroupVersion(),
    cgroups.Delegation(),
    cgroups.UserSession(),
    network.UserNetwork(),
    network.Tun(),
    network.Ping(),
    network.LowPorts(),
    system.Seccomp(),
    system.Landlock(),
)


@dataclass(frozen=True)
class Verdict:
    """Whether containers run here, and the sentence that says so."""

    runs: bool
    summary: str


def examine(host: Host, probes: Iterable[Probe] = PROBES) -> Iterator[Result]:
    """Make the probes one after the other; a probe that breaks is a failed one, never an exception."""
    for probe in probes:
        result = _examine(host, probe)
        host.results[result.name] = result
        yield result


def _examine(host: Host, probe: Probe) -> Result:
    for needed in probe.requires:
        if not host.is_ok(needed):
            return probe.skip(f"not tried without {needed}")
    try:
        return probe.examine(host)
    except Exception as problem:
        return probe.fail(f"the probe itself failed: {type(problem).__name__}: {reason(problem)}")


def judge(results: Iterable[Result]) -> Verdict:
    """What the results say together."""
    results = list(results)
    broken = [result.name for result in results if result.essential and result.status == FAIL]
    if broken:
        return Verdict(False, f"no container runs on this machine: {', '.join(broken)}")
    lacking = sum(result.status in (WARN, FAIL) for result in results)
    if lacking:
        what = "ability is" if lacking == 1 else "abilities are"
        return Verdict(True, f"containers run on this machine; {lacking} {what} lacking")
    return Verdict(True, "containers run on this machine, with everything rootless can do")
