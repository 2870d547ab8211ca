# SPDX-License-Identifier: Apache-2.0
"""Probes of what a container's own network needs besides a namespace."""

from __future__ import annotations

import os

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.runtime import idmap


class UserNetwork(Probe):
    """pasta(1) or slirp4netns(1), which connect a network namespace without privilege."""

    name = "pasta, slirp4netns"
    topic = "network"
    purpose = "a network of its own that reaches the outside"

    def examine(self, host: Host) -> Result:
        found = [path for path in map(idmap.find_program, ("pasta", "slirp4netns")) if path]
        working = [path for path in found if runs(path)]
        if working:
            return self.ok(", ".join(working))
        if found:
            return self.warn(f"{found[0]} does not run", host.install(os.path.basename(found[0])))
        return self.warn(
            "neither is installed: only --network none and host", host.install("passt")
        )


class Tun(Probe):
    """/dev/net/tun, opened."""

    name = "/dev/net/tun"
    topic = "network"
    purpose = "a network of its own that reaches the outside"

    def examine(self, host: Host) -> Result:
        try:
            os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError:
            return self.warn("not there", f"{host.sudo}modprobe tun")
        except OSError as problem:
            return self.warn(
                f"cannot open it: {reason(problem)}", f"{host.sudo}chmod 666 /dev/net/tun"
            )
        return self.ok("opened it")


class Ping(Probe):
    """The groups that may open an ICMP socket; see ping_group_range in icmp(7)."""

    name = "ping"
    topic = "network"
    purpose = "ping without privilege"

    def examine(self, host: Host) -> Result:
        text = host.read("/proc/sys/net/ipv4/ping_group_range") or "1 0"
        first, last = (int(word) for word in text.split())
        if any(first <= group <= last for group in (os.getgid(), *os.getgroups())):
            return self.ok(f"groups {first} to {last}")
        return self.warn(
            "net.ipv4.ping_group_range leaves your groups out",
            *host.set_sysctl("net.ipv4.ping_group_range=0 2147483647"),
        )


class LowPorts(Probe):
    """The first port a user may listen on; see ip_unprivileged_port_start in ip(7)."""

    name = "low ports"
    topic = "network"
    purpose = "publishing ports below 1024"

    def examine(self, host: Host) -> Result:
        start = host.read("/proc/sys/net/ipv4/ip_unprivileged_port_start") or "1024"
        if int(start) <= 80:
            return self.ok(f"from {start}")
        return self.ok(
            f"from {start}; for lower ones: {host.set_sysctl('net.ipv4.ip_unprivileged_port_start=80')[0]}"
        )


def runs(program: str) -> bool:
    """Whether `program --version` succeeds."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
    try:
        pid = os.posix_spawn(program, [program, "--version"], os.environ, file_actions=actions)
    except OSError:
        return False
    finally:
        os.close(null)
    return os.waitpid(pid, 0)[1] == 0
