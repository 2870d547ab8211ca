# SPDX-License-Identifier: Apache-2.0
"""What config.json can ask for beyond a plain container, as the container itself sees it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import LaunchFailed
from rootless.linux import abi, prctl
from rootless.oci import runtime
from rootless.runtime import compose, idmap, launch
from rootless.runtime import rootfs as steps
from rootless.runtime.idmap import IdMap
from rootless.runtime.recipe import Recipe
from tests.lib import oci_config

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SINGLE = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
KINDS = ("user", "mount", "pid", "ipc", "uts", "network")


class Bundle:
    """A root file system with a configuration, and what its command prints."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.directory = directory
        self.root = root
        self.id_map = SINGLE
        self.extra: list[steps.Step] = []

    def recipe(
        self,
        *command: str,
        mounts: list[dict[str, Any]] | None = None,
        process: dict[str, Any] | None = None,
        linux: dict[str, Any] | None = None,
        kinds: tuple[str, ...] = KINDS,
        **top: Any,
    ) -> Recipe:
        config = oci_config.smallest(
            process={"args": list(command), "cwd": "/", **(process or {})},
            mounts=[PROC, *(mounts if mounts is not None else [DEV])],
            linux={"namespaces": [{"type": kind} for kind in kinds], **(linux or {})},
            **top,
        )
        runtime.validate(config)
        root = steps.BindRoot(str(self.root), "test")
        made = compose.compose(config, root, self.id_map, bundle=str(self.directory), deep=False)
        made.steps = [*made.steps, *self.extra]
        return made

    def run(self, *command: str, **config: Any) -> str:
        """Standard output of a command that must succeed."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        made = self.recipe(*command, **config)
        made.streams = (0, writing, 2)
        try:
            process = launch.start(made)
        finally:
            os.close(writing)
            with open(reading, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        assert process.wait() == 0
        return text

    def refused(self, **config: Any) -> str:
        """The message of a launch that must fail."""
        with pytest.raises(LaunchFailed) as caught:
            launch.start(self.recipe("true", **config))
        return caught.value.message

    def mounts(self, **config: Any) -> dict[str, dict[str, Any]]:
        """What is mounted, by target."""
        found = json.loads(self.run("mounts", **config))["mounts"]
        return {entry["target"]: entry for entry in found}


@pytest.fixture
def bundle(tmp_path: Path, rootfs: Callable[..., Path]) -> Iterator[Bundle]:
    yield Bundle(tmp_path, rootfs({"etc/motd": "hello", "etc/below/file": "deep", "data/x": "x"}))
    prctl.set_child_subreaper(False)


@pytest.fixture
def mapped(bundle: Bundle) -> Bundle:
    """The same with subordinate ids."""
    bundle.id_map = idmap.default()
    return bundle


def flags(entry: dict[str, Any]) -> set[str]:
    return set(entry["options"].split(","))


# -- recursive attributes and propagation ------------------------------------------------------------


def tree(bundle: Bundle, *options: str) -> list[dict[str, Any]]:
    """A mount with one below it, and a bind mount of both at /m."""
    return [
        DEV,
        {"destination": "/tree", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/tree/below", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/m", "source": f"{bundle.root}/tree", "options": ["rbind", *options]},
    ]


def test_recursive_attributes_reach_mounts_below(bundle: Bundle) -> None:
    asked = ("rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow")
    found = bundle.mounts(mounts=tree(bundle, *asked))
    expected = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"}
    assert expected <= flags(found["/m"])
    assert expected <= flags(found["/m/below"])
    assert "rw" in flags(found["/tree/below"])  # the source stays as it was


def test_plain_attributes_hold_for_the_top_alone(bundle: Bundle) -> None:
    found = bundle.mounts(mounts=tree(bundle, "ro", "nosuid"))
    assert {"ro", "nosuid"} <= flags(found["/m"])
    assert "rw" in flags(found["/m/below"])
    assert "nosuid" not in flags(found["/m/below"])


def test_recursive_attribute_can_be_taken_back_below(bundle: Bundle) -> None:
    entries = tree(bundle, "rrw", "ratime")
    entries[2]["options"] = ["ro", "noatime"]
    found = bundle.mounts(mounts=entries)
    assert "rw" in flags(found["/m/below"])
    assert "noatime" not in flags(found["/m/below"])
    assert {"ro", "noatime"} <= flags(found["/tree/below"])


@pytest.mark.parametrize(
    ("option", "field"), [("rshared", "shared"), ("runbindable", "unbindable"), ("rprivate", "")]
)
def test_propagation_of_a_bind_mount(bundle: Bundle, option: str, field: str) -> None:
    found = bundle.mounts(mounts=tree(bundle, option))
    for target in ("/m", "/m/below"):
        assert [word.partition(":")[0] for word in found[target]["propagation"]] == [field][
            : bool(field)
        ]


@pytest.mark.parametrize(
    ("spelled", "field"), [("shared", "shared"), ("runbindable", "unbindable"), ("rprivate", None)]
)
def test_propagation_of_the_root(bundle: Bundle, spelled: str, field: str | None) -> None:
    found = bundle.mounts(linux={"rootfsPropagation": spelled})
    words = {word.partition(":")[0] for word in found["/"]["propagation"]}
    assert words - {"master"} == ({field} if field else set())


# -- sources and destinations ------------------------------------------------------------------------


def test_source_is_relative_to_the_bundle(bundle: Bundle) -> None:
    (bundle.directory / "shared").mkdir()
    (bundle.directory / "shared" / "file").write_text("from the bundle")
    entry = {"destination": "/m", "source": "shared", "options": ["bind"]}
    assert bundle.run("cat", "/m/file", mounts=[DEV, entry]) == "from the bundle"


def test_name_of_a_file_system_is_shown(bundle: Bundle) -> None:
    entry = {"destination": "/m", "type": "tmpfs", "source": "shm"}
    assert bundle.mounts(mounts=[DEV, entry])["/m"]["source"] == "shm"


def test_tmpfs_has_the_mode_of_the_directory_it_hides(bundle: Bundle) -> None:
    (bundle.root / "data").chmod(0o710)
    hidden = {"destination": "/data", "type": "tmpfs"}
    made = {"destination": "/new", "type": "tmpfs", "options": ["mode=1700"]}
    lines = bundle.run("stat", "/data", "/new", mounts=[DEV, hidden, made]).splitlines()
    assert [json.loads(line)["mode"] for line in lines] == [0o710, 0o1700]


def test_tmpcopyup_copies_what_it_hides(bundle: Bundle) -> None:
    etc = bundle.root / "etc"
    (etc / "link").symlink_to("/etc/motd")
    (etc / "motd").chmod(0o640)
    os.utime(etc / "motd", (1, 1_000_000_000))
    (etc / "below").chmod(0o500)
    os.mkfifo(etc / "fifo", 0o600)
    before = sorted(os.listdir(etc))
    entry = {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "mode=711"]}
    command = (
        "each", "ls", "/etc", ",", "cat", "/etc/below/file", ",", "readlink", "/etc/link", ",",
        "stat", "/etc", "/etc/motd", "/etc/below", "/etc/fifo", ",", "write", "/etc/new", "x",
    )  # fmt: skip
    text = bundle.run(*command, mounts=[DEV, entry])
    names, _, rest = text.partition("deep")
    assert names.split() == before
    link, *documents = rest.split("\n", 4)
    assert link == "/etc/motd"
    top, motd, below, fifo = map(json.loads, documents)
    assert [item["mode"] for item in (top, motd, below)] == [0o711, 0o640, 0o500]
    assert (motd["mtime"], fifo["type"]) == (1_000_000_000, "fifo")
    assert sorted(os.listdir(etc)) == before
    (etc / "below").chmod(0o700)


def test_tmpcopyup_that_does_not_fit_fails(bundle: Bundle) -> None:
    (bundle.root / "etc" / "large").write_bytes(bytes(1 << 20))
    entry = {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "size=64k"]}
    assert "No space left on device" in bundle.refused(mounts=[DEV, entry])


def test_source_that_is_a_link_is_followed_mounted_or_copied(bundle: Bundle) -> None:
    link = bundle.directory / "link"
    link.symlink_to("/etc/motd")
    (bundle.root / "etc" / "there").symlink_to("nowhere")

    def told(destination: str, *options: str) -> str:
        entry = {"destination": destination, "source": str(link), "options": ["bind", *options]}
        return bundle.run("readlink", destination, mounts=[DEV, entry]).strip()

    assert told("/etc/copied", "copy-symlink") == "/etc/motd"
    assert (bundle.root / "etc" / "copied").is_symlink()
    assert told("/etc/there", "src-nofollow", "dest-nofollow") == "/etc/motd"
    assert os.readlink(bundle.root / "etc" / "there") == "nowhere"
    entry = {"destination": "/etc/there", "source": str(link), "options": ["bind", "copy-symlink"]}
    assert "another file is there" in bundle.refused(mounts=[DEV, entry])


def test_locked_flag_cannot_be_cleared(bundle: Bundle) -> None:
    """mount_namespaces(7): what the host mounted without setuid stays so, and that is said."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    locked = [
        line[4] for line in lines if "nosuid" in line[5].split(",") and os.path.isdir(line[4])
    ]
    if not locked:
        pytest.skip("no mount of this machine is nosuid")
    entry = {"destination": "/m", "source": locked[-1], "options": ["bind", "suid"]}
    assert "mount_setattr: Operation not permitted" in bundle.refused(mounts=[DEV, entry])


# -- ids of mounts -----------------------------------------------------------------------------------


def ids(inside: int, outside: int) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": outside, "size": 1}]


@pytest.mark.needs("subids")
def test_ids_of_a_mount_are_mapped(mapped: Bundle) -> None:
    uid, gid = mapped.id_map.to_host_uid(1000), mapped.id_map.to_host_gid(50)
    assert uid is not None
    assert gid is not None
    entry = {
        "destination": "/m",
        "type": "tmpfs",
        "options": ["idmap"],
        "uidMappings": ids(0, uid),
        "gidMappings": ids(0, gid),
    }
    told = json.loads(mapped.run("stat", "/m", mounts=[DEV, entry]))
    assert (told["uid"], told["gid"]) == (1000, 50)


def test_mapping_the_ids_of_a_host_directory_is_refused(bundle: Bundle) -> None:
    entry = {"destination": "/m", "source": str(bundle.directory), "options": ["bind", "idmap"]}
    assert "the kernel refuses to map the ids of this mount" in bundle.refused(mounts=[DEV, entry])


# -- devices -----------------------------------------------------------------------------------------


def device(path: str, kind: str = "c", major: int = 1, minor: int = 3) -> dict[str, Any]:
    return {"path": path, "type": kind, "major": major, "minor": minor}


def test_device_is_the_hosts_found_by_its_numbers(bundle: Bundle) -> None:
    host = Path("/dev/null").stat()
    nodes = [
        device("/dev/below/mine"),
        device("/dev/full", minor=7),
        {"path": "/dev/p", "type": "p"},
    ]
    command = (
        "each",
        "stat",
        "/dev/below/mine",
        "/dev/p",
        "/dev/full",
        ",",
        "write",
        "/dev/below/mine",
        "x",
    )
    lines = bundle.run(*command, linux={"devices": nodes}).splitlines()
    mine, fifo, full = map(json.loads, lines)
    assert (mine["type"], mine["rdev"]) == ("character", [1, 3])
    assert mine["mode"] == stat.S_IMODE(host.st_mode)
    assert fifo["type"] == "fifo"
    assert full["rdev"] == [1, 7]
    assert Path("/dev/null").stat().st_ctime_ns == host.st_ctime_ns


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (device("/dev/null", minor=5), "another file is there"),
        (device("/dev/mine", major=4095, minor=1), "the host has no device c 4095:1"),
        (device("/dev/mine", kind="b", major=4095), "the host has no device b 4095:3"),
        (device("/dev/"), "not the path of a device"),
        (device("/etc/motd"), "another file is there"),
    ],
)
def test_device_that_cannot_be_is_refused(
    bundle: Bundle, node: dict[str, Any], reason: str
) -> None:
    if node["path"] == "/dev/":
        node = {**node, "path": "/dev/.."}
    assert reason in bundle.refused(linux={"devices": [node]})


def test_devices_are_there_without_a_mount_of_dev(bundle: Bundle) -> None:
    text = bundle.run("each", "stat", "/dev/null", ",", "readlink", "/dev/ptmx", mounts=[])
    assert '"rdev":[1,3]' in text
    assert text.endswith("pts/ptmx\n")


@pytest.mark.parametrize("mounts", [[], [DEV]])
def test_dev_that_is_a_link_is_refused(bundle: Bundle, mounts: list[dict[str, Any]]) -> None:
    """CVE-2026-41579: links and device files would be made where the image says."""
    (bundle.root / "dev").rmdir()
    (bundle.root / "dev").symlink_to("/etc")
    before = sorted(os.listdir(bundle.root / "etc"))
    assert "must be mounted on an ordinary directory" in bundle.refused(mounts=mounts)
    assert sorted(os.listdir(bundle.root / "etc")) == before


def test_dev_of_the_host_is_left_alone(bundle: Bundle) -> None:
    entry = {"destination": "/dev/", "source": "/dev", "options": ["rbind", "ro"]}
    made = bundle.recipe("true", mounts=[entry])
    assert {"devices", "links"}.isdisjoint(step.name for step in made.steps)
    assert launch.start(made).wait() == 0


# -- the kernel's settings ---------------------------------------------------------------------------


def test_sysctl_is_set_in_the_containers_own_namespaces(bundle: Bundle) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    asked = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/conf/lo/forwarding": "1",
        "kernel.shmmax": "4096",
    }
    files = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax")
    assert bundle.run("cat", *files, linux={"sysctl": asked}).split() == ["1", "4096"]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_sysctl_that_is_not_there_is_named(bundle: Bundle) -> None:
    message = bundle.refused(linux={"sysctl": {"net.ipv4.nothing": "1"}})
    assert message.endswith("sysctl: /proc/sys/net/ipv4/nothing: No such file or directory")


def test_sysctl_is_not_written_into_a_proc_of_the_image(bundle: Bundle) -> None:
    """CVE-2025-52881: what the image or a mount puts at /proc/sys is not what is written."""
    (bundle.directory / "trap" / "net" / "ipv4").mkdir(parents=True)
    trap = bundle.directory / "trap" / "net" / "ipv4" / "ip_forward"
    trap.write_text("untouched")
    entry = {"destination": "/elsewhere", "source": "trap", "options": ["bind"]}
    asked = {"net.ipv4.ip_forward": "1"}
    made = bundle.recipe("true", mounts=[DEV, entry], linux={"sysctl": asked})
    assert launch.start(made).wait() == 0
    assert trap.read_text() == "untouched"


def test_clocks_are_set_off(bundle: Bundle) -> None:
    asked = {"boottime": {"secs": 1_000_000_000}, "monotonic": {"secs": 5, "nanosecs": 7}}
    text = bundle.run("cat", "/proc/uptime", kinds=(*KINDS, "time"), linux={"timeOffsets": asked})
    assert float(text.split()[0]) > 1_000_000_000


def test_oom_score_is_raised(bundle: Bundle) -> None:
    text = bundle.run("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 777})
    assert text == "777\n"


def test_oom_score_below_ones_own_is_refused(bundle: Bundle) -> None:
    message = bundle.refused(process={"oomScoreAdj": -1000})
    assert message.endswith(
        "oom score: -1000: may not be lowered below your own score without root"
    )


@pytest.mark.parametrize(
    ("process", "module"),
    [({"apparmorProfile": "acme"}, "AppArmor"), ({"selinuxLabel": "a:b:c:s0"}, "SELinux")],
)
def test_label_without_its_module_is_an_error(
    bundle: Bundle, process: dict[str, Any], module: str
) -> None:
    """CVE-2025-65105: a label that is not applied must not look as if it were."""
    if Path("/sys/kernel/security/lsm").exists() and module.lower() in Path(
        "/sys/kernel/security/lsm"
    ).read_text().split(","):
        pytest.skip(f"this machine uses {module}")
    assert bundle.refused(process=process).endswith(f"this machine does not use {module}")


def test_label_unconfined_needs_no_module(bundle: Bundle) -> None:
    assert bundle.run("id", process={"apparmorProfile": "unconfined"}) == "0:0\n"


def test_resource_group_without_resctrl_is_an_error(bundle: Bundle) -> None:
    if Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("this machine has resctrl mounted")
    message = bundle.refused(linux={"intelRdt": {"closID": "a"}})
    assert "this machine has no resctrl file system" in message


# -- the process -------------------------------------------------------------------------------------


def status(text: str) -> dict[str, str]:
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def test_umask_and_limits(bundle: Bundle) -> None:
    infinity = 18446744073709551615
    process = {
        "user": {"umask": 0o27},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60},
            {"type": "RLIMIT_LOCKS", "soft": infinity, "hard": infinity},
        ],
    }
    seen = json.loads(bundle.run("probe", process=process))
    assert seen["umask"] == 0o27
    assert seen["limits"]["nofile"] == [50, 60]
    assert seen["limits"]["locks"] == [-1, -1]


@pytest.mark.needs("subids")
def test_additional_groups(mapped: Bundle) -> None:
    user = {"uid": 1000, "gid": 1000, "additionalGids": [50, 5]}
    assert sorted(map(int, mapped.run("groups", process={"user": user}).split())) == [5, 50, 1000]


def test_ambient_capabilities_are_the_inheritable_ones(bundle: Bundle) -> None:
    kill = ["CAP_KILL"]
    sets = {"bounding": kill, "effective": kill, "permitted": kill, "ambient": [*kill, "CAP_CHOWN"]}
    seen = json.loads(bundle.run("caps", process={"capabilities": sets}))["capabilities"]
    assert (seen["permitted"], seen["inheritable"], seen["ambient"]) == (32, 0, 0)
    sets["inheritable"] = kill
    seen = json.loads(bundle.run("caps", process={"capabilities": sets}))["capabilities"]
    assert (seen["permitted"], seen["inheritable"], seen["ambient"]) == (32, 32, 32)


@pytest.mark.parametrize(
    ("asked", "policy", "nice"),
    [({"policy": "SCHED_BATCH", "nice": 7}, "3", "7"), ({"policy": "SCHED_IDLE"}, "5", "0")],
)
def test_scheduler(bundle: Bundle, asked: dict[str, Any], policy: str, nice: str) -> None:
    """Fields 19 and 41 of proc_pid_stat(5)."""
    fields = bundle.run("cat", "/proc/self/stat", process={"scheduler": asked}).rpartition(")")[2]
    assert (fields.split()[38], fields.split()[16]) == (policy, nice)


def test_scheduler_that_needs_root_is_refused(bundle: Bundle) -> None:
    message = bundle.refused(process={"scheduler": {"policy": "SCHED_FIFO", "priority": 99}})
    assert "SCHED_FIFO, priority 99: needs a right that only root can give" in message


def test_disk_priority(bundle: Bundle) -> None:
    ioprio_get = abi.number("ioprio_set") + 1  # neighbours on every architecture
    asked = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    text = bundle.run("syscall", str(ioprio_get), "1", "0", process={"ioPriority": asked})
    assert int(text) == 2 << 13 | 6


def test_personality(bundle: Bundle) -> None:
    linux = {"personality": {"domain": "LINUX32"}}
    assert bundle.run("cat", "/proc/self/personality", linux=linux) == "00000008\n"


def test_processors_of_an_exec(bundle: Bundle) -> None:
    first = min(os.sched_getaffinity(0))
    bundle.extra = compose.process_steps({"execCPUAffinity": {"final": str(first)}}, {}, exec_=True)
    seen = status(bundle.run("cat", "/proc/self/status"))
    assert seen["Cpus_allowed_list"] == str(first)
    bundle.extra = compose.process_steps({"execCPUAffinity": {"initial": "8191"}}, {}, exec_=True)
    assert "none of these processors may be used" in bundle.refused()


def test_processors_of_an_exec_are_not_the_containers(bundle: Bundle) -> None:
    process = {"execCPUAffinity": {"final": "0"}}
    assert (
        status(bundle.run("cat", "/proc/self/status", process=process))["Cpus_allowed_list"]
        == (status(Path("/proc/self/status").read_text())["Cpus_allowed_list"])
    )
