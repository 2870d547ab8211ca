# SPDX-License-Identifier: Apache-2.0
"""docker's flags and an image's config together: what is run, where, with which environment."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.engine import config
from rootless.engine.request import Request
from rootless.errors import UsageError
from rootless.linux import capability

ID = "abcdef123456" + "7" * 52


def build(
    command: tuple[str, ...] = ("true",),
    image: dict[str, Any] | None = None,
    *,
    tty_mapped: bool = True,
    **fields: Any,
) -> dict[str, Any]:
    request = Request("busybox", list(command))
    for name, value in fields.items():
        setattr(request, name, value)
    return config.build(request, image or {}, ID, tty_mapped)


@pytest.mark.parametrize(
    ("image", "entrypoint", "command", "args"),
    [
        ({"Cmd": ["sh"]}, None, (), ["sh"]),
        ({"Cmd": ["sh"]}, None, ("ls",), ["ls"]),
        ({"Entrypoint": ["/e", "a"], "Cmd": ["c"]}, None, (), ["/e", "a", "c"]),
        ({"Entrypoint": ["/e", "a"], "Cmd": ["c"]}, None, ("x", "y"), ["/e", "a", "x", "y"]),
        ({"Entrypoint": ["/e"], "Cmd": ["c"]}, "/f", (), ["/f"]),
        ({"Entrypoint": ["/e"], "Cmd": ["c"]}, "/f", ("x",), ["/f", "x"]),
        ({"Entrypoint": ["/e"], "Cmd": ["c"]}, "", ("x",), ["x"]),
        ({"Entrypoint": None, "Cmd": None}, None, ("x",), ["x"]),
        ({"Entrypoint": ["/e"]}, None, (), ["/e"]),
    ],
)
def test_entrypoint_and_command(
    image: dict[str, Any], entrypoint: str | None, command: tuple[str, ...], args: list[str]
) -> None:
    assert build(command, image, entrypoint=entrypoint)["process"]["args"] == args


@pytest.mark.parametrize(("image", "entrypoint"), [({}, None), ({"Cmd": ["c"]}, "")])
def test_no_command_is_an_error(image: dict[str, Any], entrypoint: str | None) -> None:
    with pytest.raises(UsageError, match="no command specified, and busybox names none"):
        build((), image, entrypoint=entrypoint)


def test_nul_in_what_an_image_says_is_refused() -> None:
    with pytest.raises(UsageError, match="NUL"):
        build((), {"Cmd": ["a\0b"]})
    with pytest.raises(UsageError, match="NUL"):
        build(image={"Env": ["A=b\0c"]})


def test_environment_has_the_callers_last() -> None:
    image = {"Env": ["A=image", "B=image", "PATH=/image"]}
    process = build(image=image, env=["A=mine", "C=mine"], unset=["B"])["process"]
    assert process["env"] == ["PATH=/image", "HOSTNAME=abcdef123456", "A=mine", "C=mine"]


def test_environment_without_an_image_has_a_path() -> None:
    assert build()["process"]["env"] == [f"PATH={config.PATH}", "HOSTNAME=abcdef123456"]


def test_environment_on_a_terminal_names_it() -> None:
    assert "TERM=xterm" in build(tty=True)["process"]["env"]
    assert "TERM=dumb" in build(tty=True, env=["TERM=dumb"])["process"]["env"]


@pytest.mark.parametrize(
    ("image", "asked", "cwd"),
    [("", "", "/"), ("/srv", "", "/srv"), ("srv", "", "/srv"), ("/srv", "/tmp", "/tmp")],
)
def test_working_directory(image: str, asked: str, cwd: str) -> None:
    assert build(image={"WorkingDir": image}, workdir=asked)["process"]["cwd"] == cwd


def test_relative_working_directory_is_refused() -> None:
    with pytest.raises(UsageError, match="'tmp' is not an absolute path") as failed:
        build(workdir="tmp")
    assert failed.value.hint == "use -w /tmp"


def test_default_capabilities_are_podmans_eleven() -> None:
    sets = config.capabilities([], [])
    assert len(config.CAPABILITIES) == 11
    assert sets["bounding"] == sets["effective"] == sets["permitted"]
    assert set(sets["bounding"]) == set(config.CAPABILITIES)
    assert sorted(sets) == ["bounding", "effective", "permitted"]


EVERY = set(capability.NAMES)
DEFAULT = set(config.CAPABILITIES)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_RAW"], [], DEFAULT | {"CAP_NET_RAW"}),
        (["cap_net_raw", "Net_Admin"], [], DEFAULT | {"CAP_NET_RAW", "CAP_NET_ADMIN"}),
        ([], ["CHOWN", "cap_kill"], DEFAULT - {"CAP_CHOWN", "CAP_KILL"}),
        ([], ["ALL"], set()),
        (["CHOWN"], ["all"], {"CAP_CHOWN"}),
        (["ALL"], [], EVERY),
        (["ALL"], ["SYS_ADMIN"], EVERY - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], EVERY),
        (["CHOWN"], ["CHOWN"], DEFAULT),  # docker: added after it was dropped
    ],
)
def test_capabilities_added_and_dropped(
    add: list[str], drop: list[str], expected: set[str]
) -> None:
    assert set(config.capabilities(add, drop)["bounding"]) == expected


@pytest.mark.parametrize("name", ["", "CAP_", "NOSUCH", "CAP_CAP_CHOWN", "CHOWN "])
def test_unknown_capability_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no such capability"):
        config.capabilities([name], [])
    with pytest.raises(UsageError, match="no such capability"):
        config.capabilities([], [name])


def test_terminal_group_only_where_it_is_mapped() -> None:
    def options(tty_mapped: bool) -> list[str]:
        mounts = build(tty_mapped=tty_mapped)["mounts"]
        found: list[str] = next(m["options"] for m in mounts if m["type"] == "devpts")
        return found

    assert "gid=5" in options(True)
    assert "gid=5" not in options(False)


def test_own_network_has_its_own_sysfs_and_the_hosts_is_bound() -> None:
    def sysfs(network: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            m for m in build(network=network)["mounts"] if m["destination"] == "/sys"
        )
        return found

    assert sysfs("none")["type"] == "sysfs"
    assert sysfs("host")["type"] == "bind"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(sysfs("host")["options"])
    kinds = [entry["type"] for entry in build(network="host")["linux"]["namespaces"]]
    assert kinds == ["user", "mount", "pid", "ipc", "uts", "cgroup"]


def test_hostname_is_the_id_unless_one_is_given() -> None:
    assert build()["hostname"] == "abcdef123456"
    made = build(hostname="box", domainname="example.org")
    assert (made["hostname"], made["domainname"]) == ("box", "example.org")
