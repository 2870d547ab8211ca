# SPDX-License-Identifier: Apache-2.0
"""A whole config.json as a recipe: every step, their order, and that rare ones cost a plain run nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rootless.linux import mount
from rootless.runtime import compose, mounts, rootfs
from rootless.runtime.idmap import IdMap
from rootless.runtime.recipe import Recipe
from tests.lib import oci_config
from tests.lib.sources import CHECKOUT

RANGES = ((0, 1000, 1), (1, 100000, 65535))
MAP = IdMap(RANGES, RANGES, "test")
RDONLY, NOEXEC = mount.MOUNT_ATTR_RDONLY, mount.MOUNT_ATTR_NOEXEC


def recipe(config: dict[str, Any]) -> Recipe:
    root = rootfs.BindRoot("/bundle/rootfs", "test")
    return compose.compose(config, root, MAP, bundle="/bundle", deep=False)


def test_whole_configuration_as_it_describes_itself() -> None:
    made = recipe(oci_config.whole())
    assert [(step.name, step.describe()) for step in made.steps] == [
        ("propagation", "/ rslave"),
        ("root", "bind /bundle/rootfs"),
        ("mount", "/proc proc ()"),
        ("mount", "/dev tmpfs (nosuid,strictatime,mode=755,size=65536k,"
         "context=system_u:object_r:svirt_sandbox_file_t:s0:c715,c811)"),
        ("mount", "/data <- /bundle/data (rro)"),
        ("mount", "/mapped tmpfs (context=system_u:object_r:svirt_sandbox_file_t:s0:c715,c811,"
         "idmap,tmpcopyup)"),
        ("mount", "/sys/fs/cgroup cgroup (ro)"),
        ("devices", "/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty"),
        ("devices", "/dev/fuse c 10:229 /dev/sda b 8:0 /dev/pipe p"),
        ("links", " ".join(f"{path} -> {target}" for path, target in compose.LINKS)),
        ("security label", "needs SELinux"),
        ("security label", "needs SELinux"),
        ("sysctl", "net/ipv4/ip_forward=1 kernel/shmmax=1 fs/mqueue/msg_max=5 "
         "user/max_user_namespaces=3 net/ipv4/conf/eth0.100/forwarding=0"),
        ("oom score", "oom_score_adj -1000"),
        ("intelRdt", "resctrl group guaranteed"),
        ("read-only", "/proc/sys"),
        ("mask", "/proc/kcore"),
        ("read-only root", "/ ro"),
        ("pivot", "pivot_root, then detach the old root"),
        ("propagation", "/ slave"),
        ("hostname", "slartibartfast magrathea"),
        ("limits", "core=0:1024 locks=-1:-1"),
        ("scheduler", "SCHED_DEADLINE, runtime 1000000, deadline 2000000, period 3000000, "
         "SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM"),
        ("io priority", "IOPRIO_CLASS_BE 7"),
        ("personality", "LINUX"),
    ]  # fmt: skip
    assert [step.describe() for step in made.final_steps] == [
        "SELinux system_u:system_r:svirt_lxc_net_t:s0:c124,c675"
    ]
    assert made.clock_offsets == b"monotonic 172800 5\nboottime -604800 0\n"
    assert made.umask == 0o27


@pytest.mark.parametrize(
    ("options", "set_", "clear"),
    [
        (["rro", "rnoexec"], RDONLY | NOEXEC, 0),
        (["rro", "rrw"], 0, RDONLY),
        (["rnoexec", "rexec"], 0, NOEXEC),
        (["rnoatime", "rrelatime"], 0, mount.MOUNT_ATTR__ATIME),
        (["ro", "relatime"], 0, 0),
    ],
)
def test_recursive_options_are_kept_apart(options: list[str], set_: int, clear: int) -> None:
    parsed = compose.parse_options(options)
    assert (parsed.set_below, parsed.clear_below) == (set_, clear)
    assert parsed.data == []


def test_options_without_meaning_are_dropped_and_flags_passed_on() -> None:
    parsed = compose.parse_options(["defaults", "silent", "acl", "sync", "remount", "rdefaults"])
    assert parsed.data == [("sync", None), ("rdefaults", None)]
    assert not parsed.is_elaborate


def test_listed_options_are_understood() -> None:
    for option in compose.mount_options():
        data = compose.parse_options([option]).data
        assert data in ([], [(option, None)])
    assert compose.mount_options() == sorted(set(compose.mount_options()))


def test_sources_are_relative_to_the_bundle_only_for_bind_mounts() -> None:
    def source(**entry: Any) -> object:
        step = compose.mount_step({"destination": "/m", **entry}, {}, bundle="/b")
        assert isinstance(step, (rootfs.Bind, rootfs.Mount, mounts.Elaborate))
        return step.source

    assert source(source="s", options=["rbind"]) == "/b/s"
    assert source(source="/s", options=["bind", "rro"]) == "/s"
    assert source(source="s", type="tmpfs") == "s"
    assert source(source="none", type="tmpfs") == ""


@pytest.mark.parametrize(
    ("kind", "options", "step"),
    [
        ("devpts", ["rprivate", "newinstance"], rootfs.Mount),
        ("cgroup", ["rprivate", "rw"], rootfs.CgroupMount),
        ("cgroup2", ["rslave"], rootfs.CgroupMount),
        ("tmpfs", ["rslave"], mounts.Elaborate),
        ("tmpfs", ["rprivate", "tmpcopyup"], mounts.Elaborate),
    ],
)
def test_propagation_of_a_new_file_system(kind: str, options: list[str], step: type) -> None:
    entry = {"destination": "/m", "type": kind, "source": kind, "options": options}
    assert type(compose.mount_step(entry, {})) is step


def test_mount_map_is_in_the_ids_of_the_container() -> None:
    """The configuration says the host's ids; those the container lacks are nobody's."""
    wanted = [(0, 1000, 1), (5, 99_990, 20), (100, 7, 3)]
    made = mounts.mount_map(wanted, wanted, MAP, is_recursive=True)
    assert made.uids == [(0, 0, 1), (15, 1, 10)]
    assert (made.is_own, made.is_recursive) == (False, True)
    assert mounts.mount_map([], [], MAP, is_recursive=False).is_own


@pytest.mark.parametrize(
    ("spelled", "propagation"), [("rslave", mount.MS_SLAVE), ("private", mount.MS_PRIVATE)]
)
def test_root_that_follows_the_host_is_bound_as_its_slave(spelled: str, propagation: int) -> None:
    config = oci_config.smallest(linux={"rootfsPropagation": spelled})
    root = rootfs.BindRoot("/r", "")
    compose.compose(config, root, MAP)
    assert root.propagation == propagation


def test_affinity_is_for_exec_alone() -> None:
    process = {"execCPUAffinity": {"initial": "0-2, 5", "final": ""}}
    assert compose.process_steps(process, {}) == []
    (step,) = compose.process_steps(process, {}, exec_=True)
    assert step.describe() == "processors 0,1,2,5"


def test_plain_configuration_loads_no_rare_steps() -> None:
    """Each module costs a run of a container what it costs to import."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from rootless.engine import config
from rootless.engine.request import Request
from rootless.runtime import compose, idmap, rootfs
ids = ((0, 1, 1),)
made = config.build(Request("image", ["true"]), {}, "f" * 64, False)
compose.compose(made, rootfs.BindRoot("/", ""), idmap.IdMap(ids, ids, ""), user="")
print(*sorted(name for name in sys.modules if name.startswith("rootless.runtime.")))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code, str(CHECKOUT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rare = {"mounts", "devices", "kernel", "scheduling", "labels", "procfs", "copyup"}
    assert rare.isdisjoint(name.rpartition(".")[2] for name in done.stdout.split())
