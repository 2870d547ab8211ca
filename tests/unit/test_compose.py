# SPDX-License-Identifier: Apache-2.0
"""An OCI configuration as a recipe: which steps, in which order, and how they describe themselves."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.engine import config as oci_config
from rootless.engine.request import Request
from rootless.errors import Invalid
from rootless.linux import mount, namespaces
from rootless.runtime import compose, rootfs
from rootless.runtime.idmap import IdMap
from rootless.runtime.recipe import Recipe

RANGES = ((0, 1001, 1), (1, 100000, 65536))
MAP = IdMap(RANGES, RANGES, "test")
SINGLE = IdMap(((0, 1001, 1),), ((0, 1001, 1),), "test")
RDONLY, NOSUID = mount.MOUNT_ATTR_RDONLY, mount.MOUNT_ATTR_NOSUID
NODEV, NOEXEC = mount.MOUNT_ATTR_NODEV, mount.MOUNT_ATTR_NOEXEC


def recipe(id_map: IdMap = MAP, user: str | None = "", **fields: Any) -> Recipe:
    request = Request("image", ["true"])
    for name, value in fields.items():
        setattr(request, name, value)
    config = oci_config.build(request, {}, "f" * 64, not id_map.is_single)
    config["mounts"] += request.mounts
    return compose.compose(config, rootfs.BindRoot("/image", "test"), id_map, user=user)


def plain(**changes: Any) -> dict[str, Any]:
    """The least a configuration can be."""
    process = {"args": ["true"], "cwd": "/", **changes.pop("process", {})}
    return {"process": process, **changes}


def from_config(config: dict[str, Any]) -> Recipe:
    return compose.compose(config, rootfs.BindRoot("/image", ""), MAP)


def test_default_container_as_it_describes_itself() -> None:
    told = [(step.name, step.describe()) for step in recipe().steps]
    assert told == [
        ("propagation", "/ rslave"),
        ("root", "bind /image"),
        ("mount", "/proc proc (nosuid,nodev,noexec)"),
        ("mount", "/dev tmpfs (nosuid,strictatime,mode=755,size=65536k)"),
        ("mount", "/dev/pts devpts (nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)"),
        ("mount", "/dev/mqueue mqueue (nosuid,nodev,noexec)"),
        ("mount", "/dev/shm tmpfs (nosuid,nodev,noexec,mode=1777,size=67108864)"),
        ("mount", "/sys sysfs (ro,nosuid,nodev,noexec)"),
        ("mount", "/sys/fs/cgroup cgroup (ro,nosuid,nodev,noexec)"),
        ("devices", "/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty"),
        ("links", " ".join(f"{path} -> {target}" for path, target in compose.LINKS)),
        ("read-only", "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"),
        ("mask", " ".join(oci_config.masked())),
        ("pivot", "pivot_root, then detach the old root"),
        ("hostname", "ffffffffffff"),
    ]


def test_describing_changes_nothing() -> None:
    made = recipe(
        mounts=[{"destination": "/m", "type": "bind", "source": "/no/such", "options": []}]
    )
    first = [step.describe() for step in made.steps]
    assert [step.describe() for step in made.steps] == first
    assert "/m <- /no/such (rbind)" in first


def test_default_namespaces_are_all_seven() -> None:
    kinds = ("user", "mount", "pid", "ipc", "uts", "cgroup", "network")
    expected = 0
    for kind in kinds:
        expected |= namespaces.BY_NAME[kind][0]
    assert recipe().unshare == expected
    assert recipe(network="host").unshare == expected & ~namespaces.CLONE_NEWNET


def test_read_only_root_comes_after_everything_that_makes_mount_points() -> None:
    names = [step.name for step in recipe(read_only=True).steps]
    assert names.index("read-only root") == names.index("pivot") - 1
    assert names.index("read-only root") > max(names.index("mask"), names.index("links"))


def test_masks_come_after_the_users_mounts() -> None:
    """A bind below /sys must not lie over a mask."""
    entry = {"destination": "/sys/firmware", "type": "bind", "source": "/", "options": ["rbind"]}
    names = [(step.name, step.describe()) for step in recipe(mounts=[entry]).steps]
    assert names.index(("bind", "/sys/firmware <- / (rbind)")) < [n for n, _ in names].index("mask")


def test_limits_and_names_only_where_asked_for() -> None:
    names = [step.name for step in from_config(plain()).steps]
    assert names == ["propagation", "root", "devices", "links", "pivot"]
    limits = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]
    made = from_config(plain(process={"rlimits": limits}, domainname="d"))
    assert [(s.name, s.describe()) for s in made.steps[-2:]] == [
        ("hostname", "d"),
        ("limits", "nofile=5:6"),
    ]


@pytest.mark.parametrize(
    ("options", "set_", "clear", "data", "propagation"),
    [
        ([], 0, 0, [], 0),
        (["ro", "nosuid", "nodev", "noexec"], RDONLY | NOSUID | NODEV | NOEXEC, 0, [], 0),
        (["ro", "rw"], 0, 0, [], 0),
        (["rw", "ro"], RDONLY, 0, [], 0),
        (["nosuid", "suid"], 0, NOSUID, [], 0),
        (["noexec", "exec", "noexec"], NOEXEC, NOEXEC, [], 0),
        (["rslave"], 0, 0, [], mount.MS_SLAVE),
        (["private", "rshared"], 0, 0, [], mount.MS_SHARED),
        (["size=1m", "mode=755", "newinstance"], 0, 0,
         [("size", "1m"), ("mode", "755"), ("newinstance", None)], 0),
        (["x="], 0, 0, [("x", "")], 0),
        (["noatime"], mount.MOUNT_ATTR_NOATIME, mount.MOUNT_ATTR__ATIME, [], 0),
    ],
)  # fmt: skip
def test_mount_options_are_sorted_by_what_they_are_for(
    options: list[str], set_: int, clear: int, data: list[tuple[str, str | None]], propagation: int
) -> None:
    parsed = compose.parse_options(options)
    assert (parsed.set, parsed.clear, parsed.data) == (set_, clear, data)
    assert parsed.propagation == propagation


@pytest.mark.parametrize(
    ("kind", "options", "recursive"),
    [
        ("bind", ["rbind"], True),
        ("bind", ["bind"], False),
        ("none", ["rbind"], True),
        ("bind", [], True),
    ],
)
def test_bind_is_recursive_unless_bind_says_not(
    kind: str, options: list[str], recursive: bool
) -> None:
    entry = {"destination": "/m", "type": kind, "source": "/s", "options": options}
    step = compose.mount_step(entry, {"/m": "why"})
    assert isinstance(step, rootfs.Bind)
    assert (step.recursive, step.reason) == (recursive, "why")


def test_cgroup_of_either_name_is_the_unified_one() -> None:
    for kind in ("cgroup", "cgroup2"):
        entry = {"destination": "/sys/fs/cgroup", "type": kind, "source": kind, "options": ["ro"]}
        assert isinstance(compose.mount_step(entry, {}), rootfs.CgroupMount)


def test_environment_last_one_wins() -> None:
    assert compose.environment(["A=1", "B=", "A=2=3"]) == {"A": "2=3", "B": ""}


@pytest.mark.parametrize("entry", ["A", "", "=x"])
def test_environment_refuses(entry: str) -> None:
    with pytest.raises(Invalid, match="process.env"):
        compose.environment([entry])


def test_identity_of_a_configuration_is_numeric() -> None:
    user = {"uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0o77}
    made = from_config(plain(process={"user": user}))
    assert made.identity.user == "5:6"
    assert made.identity.additional_groups == [7, 8]
    assert made.umask == 0o77


def test_single_id_cannot_set_groups() -> None:
    assert recipe(SINGLE).identity.can_set_groups is False
    assert recipe(MAP).identity.can_set_groups is True


def test_capability_sets_and_the_unknown_one() -> None:
    identity = recipe(cap_drop=["ALL"], cap_add=["CHOWN"], no_new_privileges=True).identity
    assert (identity.bounding, identity.effective, identity.permitted) == (1, 1, 1)
    assert (identity.inheritable, identity.ambient) == (0, 0)
    assert identity.describe() == "user 0, capabilities chown, no new privileges"
    with pytest.raises(Invalid, match="process.capabilities.bounding: no such capability"):
        from_config(plain(process={"capabilities": {"bounding": ["CAP_X"]}}))


def test_unknown_limit_is_refused() -> None:
    with pytest.raises(Invalid, match="no such limit: RLIMIT_X"):
        from_config(plain(process={"rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}))


def test_recipe_inserts_before_a_named_step() -> None:
    made = recipe()
    made.insert_before("pivot", rootfs.ReadOnlyRoot("x"))
    names = [step.name for step in made.steps]
    assert names.index("read-only root") == names.index("pivot") - 1
    with pytest.raises(ValueError):
        made.insert_before("nothing", rootfs.Pivot())
