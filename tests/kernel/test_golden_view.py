# SPDX-License-Identifier: Apache-2.0
"""The view from inside a default container, whole: what the static probe prints against what it should.

A difference is either a hole or a decision; a decision is written down here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lib.command_line import CommandLine

pytestmark = [
    pytest.mark.needs("userns", "libseccomp"),
    pytest.mark.usefixtures("clean_host"),
]

# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
ELEVEN = 0x800405FB
SYSTEM = {"nosuid", "nodev", "noexec"}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# The union of what moby and podman hide from a container, and what they make read-only.
HIDDEN = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware",
    "/sys/fs/selinux",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
THROTTLED = [f"/sys/devices/system/cpu/{name}/thermal_throttle"
             for name in sorted(os.listdir("/sys/devices/system/cpu"))]  # fmt: skip


class View:
    """What one container sees, in the terms of the golden description."""

    def __init__(self, probe: dict[str, Any]) -> None:
        self.probe = probe
        self.mounts: dict[str, dict[str, Any]] = {e["target"]: e for e in probe["mounts"]}

    def value(self) -> dict[str, Any]:
        """Everything that no host, no kernel and no run changes."""
        return {
            "pid": (self.probe["pid"], self.probe["ppid"], self.probe["sid"], self.probe["pgid"]),
            "processes": self.probe["processes"],
            "uid": self.probe["uid"],
            "gid": self.probe["gid"],
            "groups": self.probe["groups"],
            "capabilities": self.probe["capabilities"],
            "no_new_privs": self.probe["no_new_privs"],
            "securebits": self.probe["securebits"],
            "seccomp": self.probe["seccomp"],
            "fds": [(entry["fd"], entry["flags"] & os.O_ACCMODE) for entry in self.probe["fds"]],
            "signals": (self.probe["signals_blocked"], self.probe["signals_ignored"]),
            "tty": (self.probe["tty"]["fds"], self.probe["tty"]["controlling"]),
            "umask": self.probe["umask"],
            "cwd": self.probe["cwd"],
            "env": sorted(self.probe["env"]),
            "mounts": {
                target: (entry["type"], self.flags(entry))
                for target, entry in self.mounts.items()
                if target not in ("/", *self.optional())
            },
            # What the host mounts may come in, where its own mounts are shared; nothing goes out.
            "propagation": {
                word.partition(":")[0]
                for entry in self.mounts.values()
                for word in entry["propagation"]
            }
            - {"master"},
        }

    @staticmethod
    def flags(entry: dict[str, Any]) -> set[str]:
        return set(entry["options"].split(",")) & {"ro", *SYSTEM}

    @staticmethod
    def optional() -> tuple[str, ...]:
        """Mounts that depend on the host's kernel: looked at one by one; and files of the host."""
        files = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
        return (*HIDDEN, *READ_ONLY, *THROTTLED, *files)


def golden(**changes: Any) -> dict[str, Any]:
    sets = dict.fromkeys(("bounding", "permitted", "effective"), ELEVEN)
    mounts: dict[str, Any] = {
        "/proc": ("proc", SYSTEM),
        "/dev": ("tmpfs", {"nosuid"}),
        "/dev/pts": ("devpts", {"nosuid", "noexec"}),
        "/dev/shm": ("tmpfs", SYSTEM),
        "/dev/mqueue": ("mqueue", SYSTEM),
        "/sys": ("sysfs", {"ro", *SYSTEM}),
        "/sys/fs/cgroup": ("cgroup2", {"ro", *SYSTEM}),
    }
    # Bound from the host, because mknod(2) is refused: whatever they lie on there, not nodev.
    kind = "devtmpfs"
    mounts |= {f"/dev/{name}": (kind, {"nosuid", "noexec"}) for name in DEVICES}
    return {
        "pid": (1, 0, 1, 1),
        "processes": [1],
        "uid": [0, 0, 0],
        "gid": [0, 0, 0],
        "groups": [0],
        "capabilities": {**sets, "inheritable": 0, "ambient": 0},
        "no_new_privs": 0,
        "securebits": 0,
        "seccomp": 2,
        "fds": [(0, os.O_RDWR), (1, os.O_WRONLY), (2, os.O_WRONLY)],
        "signals": ([], []),
        "tty": ([], 0),
        "umask": 0o022,
        "cwd": "/",
        "env": ["HOME", "HOSTNAME", "PATH"],
        "mounts": mounts,
        "propagation": set(),
        **changes,
    }


@pytest.fixture
def inside(rootless: CommandLine, rootfs: Callable[..., Path]) -> Callable[..., View]:
    """A function that runs the probe with some flags."""
    root = rootfs()
    return lambda *flags: View(rootless.json("run", "--rm", *flags, "--rootfs", root, "probe"))


def normal(view: View) -> dict[str, Any]:
    """The view, with the two differences between hosts that are none between containers."""
    value = view.value()
    for name in DEVICES:  # where the host's /dev is a tmpfs, so are its parts
        kind, flags = value["mounts"][f"/dev/{name}"]
        value["mounts"][f"/dev/{name}"] = ("devtmpfs" if kind == "tmpfs" else kind, flags)
    if value["groups"] == []:  # without subordinate ids setgroups(2) is refused
        value["groups"] = [0]
    return value


def test_default_view_is_the_golden_one(inside: Callable[..., View]) -> None:
    assert normal(inside()) == golden()


def test_view_with_no_new_privileges_differs_in_that_alone(inside: Callable[..., View]) -> None:
    assert normal(inside("--security-opt", "no-new-privileges")) == golden(no_new_privs=1)


def test_view_without_capabilities_differs_in_that_alone(inside: Callable[..., View]) -> None:
    names = ("bounding", "permitted", "effective", "inheritable", "ambient")
    assert normal(inside("--cap-drop=ALL")) == golden(capabilities=dict.fromkeys(names, 0))


def test_view_without_a_filter_differs_in_that_alone(inside: Callable[..., View]) -> None:
    assert normal(inside("--security-opt", "seccomp=unconfined")) == golden(seccomp=0)


@pytest.mark.needs("subids")
def test_view_of_an_ordinary_user(inside: Callable[..., View]) -> None:
    none = dict.fromkeys(("permitted", "effective", "inheritable", "ambient"), 0)
    assert normal(inside("-u", "1000:1000")) == golden(
        uid=[1000] * 3, gid=[1000] * 3, groups=[1000],
        capabilities={"bounding": ELEVEN, **none},
    )  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--security-opt", "no-new-privileges")])
def test_one_filter_is_loaded(
    rootless: CommandLine, rootfs: Callable[..., Path], flags: tuple[str, ...]
) -> None:
    status = rootless.ok("run", "--rm", *flags, "--rootfs", rootfs(), "cat", "/proc/self/status")
    assert "Seccomp:\t2\nSeccomp_filters:\t1\n" in status


def test_hidden_paths_are_covered(inside: Callable[..., View]) -> None:
    """A superset of moby's and podman's lists; a file by the null device, a directory by an empty one."""
    mounts = inside().mounts
    expected = [path for path in (*HIDDEN, *THROTTLED) if os.path.exists(path)]
    assert {"/proc/interrupts", "/proc/keys", "/proc/timer_list"} <= set(expected)
    for path in expected:
        entry = mounts[path]
        if os.path.isdir(path):
            assert (entry["type"], View.flags(entry)) == ("tmpfs", {"ro", *SYSTEM}), path
            assert "nr_inodes=1" in entry["super_options"]
        else:
            assert (entry["root"], View.flags(entry)) == ("/null", {"nosuid", "noexec"}), path


def test_read_only_paths_keep_the_flags_of_proc(inside: Callable[..., View]) -> None:
    mounts = inside().mounts
    expected = [path for path in READ_ONLY if os.path.exists(path)]
    assert "/proc/sys" in expected
    for path in expected:
        assert (mounts[path]["type"], View.flags(mounts[path])) == ("proc", {"ro", *SYSTEM}), path


def test_ids_are_the_callers_and_the_subordinate_ones(inside: Callable[..., View]) -> None:
    for name, own in (("uid_map", os.getuid()), ("gid_map", os.getgid())):
        lines = [line.split() for line in inside().probe[name].splitlines()]
        assert lines[0] == ["0", str(own), "1"]
        assert all(line[0] != "0" for line in lines[1:])
        assert str(own) not in [line[1] for line in lines[1:]]


def test_dumpable_command_and_unreadable_runtime(inside: Callable[..., View]) -> None:
    """Process 1 is the command; nothing of ours is left to be looked into."""
    probe = inside().probe
    assert probe["dumpable"] == 1
    assert probe["parent_death_signal"] == 9
