# SPDX-License-Identifier: Apache-2.0
"""What a command sees of itself and around it, in its own words: `testbox probe` inside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import config as oci_config
from rootless.linux import capability
from tests.lib.command_line import CommandLine

pytestmark = [pytest.mark.needs("userns")]

DEFAULT = capability.mask(oci_config.CAPABILITIES)
SUBIDS = pytest.mark.needs("subids")
Probe = Callable[..., dict[str, Any]]


@pytest.fixture
def probe(rootless: CommandLine, rootfs: Callable[..., Path], clean_host: None) -> Probe:
    """A function that runs `testbox probe` with some flags and gives its answer."""
    root = rootfs()

    def run(*flags: str, **settings: Any) -> dict[str, Any]:
        answer: dict[str, Any] = rootless.json(
            "run", "--rm", *flags, "--rootfs", root, "testbox", "probe", **settings
        )
        return answer

    return run


def mounts(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The uppermost mount at every target."""
    return {entry["target"]: entry for entry in answer["mounts"]}


# -- process -----------------------------------------------------------------------------------------


def test_process_1_of_a_session_of_its_own_without_a_terminal(probe: Probe) -> None:
    seen = probe()
    assert (seen["pid"], seen["ppid"], seen["sid"], seen["pgid"]) == (1, 0, 1, 1)
    assert seen["processes"] == [1]
    assert (seen["tty"]["fds"], seen["tty"]["controlling"]) == ([], 0)
    assert seen["argv"] == []


def test_namespaces_are_all_its_own(probe: Probe) -> None:
    own = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in probe()["namespaces"]}
    seen = probe()["namespaces"]
    shared = {name for name in own if own[name] == seen[name]}
    assert shared <= {"time"}
    shared = {name for name in own if own[name] == probe("--network=host")["namespaces"][name]}
    assert shared <= {"time", "net"}
    assert "net" in shared


def test_descriptors_are_the_three_streams(
    rootless: CommandLine, rootfs: Callable[..., Path], clean_host: None
) -> None:
    """CVE-2024-21626: what the caller leaks ends with us."""
    leaked = [os.open(path, os.O_RDONLY) for path in ("/", "/etc/passwd")]
    command = ("run", "--rm", "--rootfs", rootfs(), "fds")
    with rootless.start(*command, pass_fds=leaked) as running:
        out, _ = running.communicate()
    for fd in leaked:
        os.close(fd)
    assert [entry["fd"] for entry in json.loads(out)["fds"]] == [0, 1, 2]


def test_signals_are_as_at_the_beginning(probe: Probe) -> None:
    seen = probe()
    assert (seen["signals_blocked"], seen["signals_ignored"]) == ([], [])
    assert seen["parent_death_signal"] == 9
    assert seen["umask"] == 0o022


def test_environment_is_the_containers(probe: Probe) -> None:
    environ = {"SECRET": "s", "LD_PRELOAD": "", "PYTHONPATH": ""}
    seen = probe("-e", "A=b", environ=environ)["env"]
    hostname = seen.pop("HOSTNAME")
    assert seen == {"PATH": oci_config.PATH, "HOME": "/root", "A": "b"}
    assert len(hostname) == 12


def test_names(probe: Probe) -> None:
    seen = probe("-h", "box", "--domainname", "example.org")
    assert (seen["hostname"], seen["domainname"]) == ("box", "example.org")
    assert seen["env"]["HOSTNAME"] == "box"


def test_working_directory(probe: Probe) -> None:
    assert probe()["cwd"] == "/"
    assert probe("-w", "/new/place")["cwd"] == "/new/place"


def test_limits_are_the_callers_but_where_asked(probe: Probe) -> None:
    seen = probe("--ulimit", "nofile=17:18", "--ulimit", "core=0")["limits"]
    assert (seen["nofile"], seen["core"]) == ([17, 18], [0, 0])


# -- identity ----------------------------------------------------------------------------------------


def test_capabilities_of_root_are_the_eleven_and_none_is_inheritable(probe: Probe) -> None:
    sets = probe()["capabilities"]
    assert sets == {
        "bounding": DEFAULT,
        "permitted": DEFAULT,
        "effective": DEFAULT,
        "inheritable": 0,
        "ambient": 0,
    }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cap-drop=ALL"], 0),
        (["--cap-drop=ALL", "--cap-add=CHOWN"], 1),
        (["--cap-add=NET_RAW"], DEFAULT | capability.mask(["CAP_NET_RAW"])),
        (["--cap-drop=KILL"], DEFAULT & ~capability.mask(["CAP_KILL"])),
    ],
)
def test_bounding_set_is_what_was_asked_for(probe: Probe, flags: list[str], expected: int) -> None:
    sets = probe(*flags)["capabilities"]
    assert (sets["bounding"], sets["effective"], sets["permitted"]) == (expected,) * 3
    assert (sets["inheritable"], sets["ambient"]) == (0, 0)


def test_cap_add_all_is_everything_the_kernel_has(probe: Probe) -> None:
    everything = (1 << capability.last() + 1) - 1
    assert probe("--cap-add=ALL")["capabilities"]["bounding"] == everything


@SUBIDS
def test_ordinary_user_has_no_capability(probe: Probe) -> None:
    """CVE-2022-24769: nothing inheritable, so no file can hand something on."""
    sets = probe("-u", "1000")["capabilities"]
    assert sets == {
        "bounding": DEFAULT, "permitted": 0, "effective": 0, "inheritable": 0, "ambient": 0
    }  # fmt: skip


def test_new_privileges_are_possible_unless_refused(probe: Probe) -> None:
    assert probe()["no_new_privs"] == 0
    assert probe("--security-opt", "no-new-privileges")["no_new_privs"] == 1


@SUBIDS
@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [0], "/root"),
        ("user", 1000, 1000, [50, 1000], "/home/user"),
        ("1000", 1000, 1000, [50, 1000], "/home/user"),
        ("1000:staff", 1000, 50, [50], "/home/user"),
        ("4000:5000", 4000, 5000, [5000], "/"),
        ("daemon", 1, 1, [1], "/"),
    ],
)
def test_user_by_name_and_number(
    probe: Probe, user: str, uid: int, gid: int, groups: list[int], home: str
) -> None:
    seen = probe("-u", user)
    assert (seen["uid"], seen["gid"]) == ([uid] * 3, [gid] * 3)
    assert sorted(seen["groups"]) == groups
    assert seen["env"]["HOME"] == home


@SUBIDS
@pytest.mark.parametrize(("uid", "gid"), [(os.getuid(), os.getgid()), (200, 300)])
def test_keep_id_is_the_caller_with_the_ids_around(probe: Probe, uid: int, gid: int) -> None:
    mode = "keep-id" if uid == os.getuid() else f"keep-id:uid={uid},gid={gid}"
    seen = probe("--userns", mode, "-u", f"{uid}:{gid}")
    assert (seen["uid"], seen["gid"]) == ([uid] * 3, [gid] * 3)
    lines = [line.split() for line in seen["uid_map"].splitlines()]
    assert [str(uid), str(os.getuid()), "1"] in lines or len(lines) == 3


@SUBIDS
def test_root_under_keep_id_is_a_subordinate_id(probe: Probe, tmp_path: Path) -> None:
    seen = probe("--userns=keep-id", "-u", "0", "-v", f"{tmp_path}:/here")
    assert seen["uid"] == [0] * 3
    assert seen["capabilities"]["effective"] == DEFAULT


def test_host_map_is_the_caller_alone(probe: Probe) -> None:
    seen = probe("--userns=host")
    assert (seen["uid"], seen["gid"]) == ([os.getuid()] * 3, [os.getgid()] * 3)
    assert seen["uid_map"].split() == [str(os.getuid()), str(os.getuid()), "1"]
    assert seen["setgroups"].strip() == "deny"


# -- mounts ------------------------------------------------------------------------------------------


def flags_of(entry: dict[str, Any]) -> set[str]:
    return set(entry["options"].split(",")) & {"ro", "nosuid", "nodev", "noexec"}


def test_standard_mounts_have_their_flags(probe: Probe) -> None:
    seen = mounts(probe())
    expected = {
        "/proc": ("proc", {"nosuid", "nodev", "noexec"}),
        "/dev": ("tmpfs", {"nosuid"}),
        "/dev/pts": ("devpts", {"nosuid", "noexec"}),
        "/dev/shm": ("tmpfs", {"nosuid", "nodev", "noexec"}),
        "/dev/mqueue": ("mqueue", {"nosuid", "nodev", "noexec"}),
        "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec"}),
    }
    assert {path: (seen[path]["type"], flags_of(seen[path])) for path in expected} == expected
    assert {"ro", "nosuid", "nodev", "noexec"} <= flags_of(seen["/sys/fs/cgroup"])
    for path in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger"):
        if path in seen:
            assert flags_of(seen[path]) == {"ro", "nosuid", "nodev", "noexec"}, path


def test_no_mount_comes_from_the_host_uninvited(probe: Probe) -> None:
    """Nothing of the old root is left; what is bound is bound on purpose."""
    answer = probe()
    targets = set(mounts(answer))
    allowed = {"/", "/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    assert all(t in allowed or t.startswith(("/proc/", "/dev/", "/sys/")) for t in targets)
    # Nothing that is mounted here goes to the host.
    assert all(not any(w.startswith("shared") for w in e["propagation"]) for e in answer["mounts"])


def inside(rootless: CommandLine, root: Path, *command: str, flags: tuple[str, ...] = ()) -> str:
    return rootless.ok("run", "--rm", *flags, "--rootfs", root, *command)


def test_masked_paths_are_empty_and_read_only_paths_refuse(
    rootless: CommandLine, rootfs: Callable[..., Path]
) -> None:
    root = rootfs()
    present = [path for path in oci_config.MASKED if os.path.exists(path)]
    assert {"/proc/keys", "/proc/interrupts"} <= set(present)
    told = inside(rootless, root, "stat", *present).splitlines()
    for stat in map(json.loads, told):
        if stat["type"] == "character":
            assert stat["rdev"] == [1, 3], stat["path"]
        else:
            assert stat["type"] == "directory", stat["path"]
            assert inside(rootless, root, "ls", stat["path"]) == ""
    refused = rootless("run", "--rm", "--rootfs", root, "write", "/proc/sys/kernel/hostname", "x")
    assert "Read-only file system" in refused.stderr
    refused = rootless("run", "--rm", "--rootfs", root, "mkdir", "/sys/firmware/x")
    assert refused.returncode == 1


def test_devices_are_the_hosts_and_work(rootless: CommandLine, rootfs: Callable[..., Path]) -> None:
    root = rootfs()
    numbers = {
        "null": [1, 3], "zero": [1, 5], "full": [1, 7], "random": [1, 8], "urandom": [1, 9],
        "tty": [5, 0],
    }  # fmt: skip
    told = inside(rootless, root, "stat", *(f"/dev/{name}" for name in numbers)).splitlines()
    assert {Path(s["path"]).name: s["rdev"] for s in map(json.loads, told)} == numbers
    links = inside(
        rootless,
        root,
        "each",
        *["readlink", "/dev/fd", ",", "readlink", "/dev/stdin", ",", "readlink", "/dev/ptmx"],
    )
    assert links.split() == ["/proc/self/fd", "/proc/self/fd/0", "pts/ptmx"]
    listed = set(inside(rootless, root, "ls", "/dev").split())
    assert listed == {*numbers, "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue"}
    assert inside(rootless, root, "write", "/dev/null", "gone") == ""


def test_new_device_nodes_are_refused(rootless: CommandLine, rootfs: Callable[..., Path]) -> None:
    refused = rootless(
        "run", "--rm", "--cap-add=MKNOD", "--rootfs", rootfs(), "mknod", "/dev/sda", "8", "0"
    )
    assert "Operation not permitted" in refused.stderr


def test_hosts_and_hostname_files_name_the_container(
    rootless: CommandLine, rootfs: Callable[..., Path]
) -> None:
    flags = ("-h", "box", "--add-host", "db:10.0.0.7")
    told = inside(rootless, rootfs(), "cat", "/etc/hostname", "/etc/hosts", flags=flags)
    assert told.splitlines()[0] == "box"
    assert "127.0.0.1\tbox" in told
    assert "10.0.0.7\tdb" in told


def test_loopback_is_up_in_its_own_network(
    rootless: CommandLine, rootfs: Callable[..., Path]
) -> None:
    told = inside(rootless, rootfs(), "cat", "/proc/net/dev", "/proc/net/fib_trie")
    assert [line.split(":")[0].strip() for line in told.splitlines() if ": " in line] == ["lo"]
    assert "127.0.0.1" in told
