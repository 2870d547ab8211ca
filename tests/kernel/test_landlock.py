# SPDX-License-Identifier: Apache-2.0
"""`landlock=RULES`: the grammar, and the wall it makes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostUnable, UsageError
from rootless.linux import landlock
from rootless.runtime.landlock import parse
from rootless.runtime.rootfs import Stage
from tests.lib.filtered import in_child, outcome

needs_landlock = pytest.mark.needs("landlock")


def behind(rules: str, function: Callable[[], Any]) -> Any:
    """What `function` returns in a child behind the rules."""
    step = parse(rules)
    return in_child(lambda: step.execute(Stage.__new__(Stage)), function)


# -- the grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("ro:/", "ro /"),
        ("ro:/usr:/etc,rw:/tmp", "ro /usr, ro /etc, rw /tmp"),
        ("connect", "connect nothing"),
        ("connect:443:80,bind:8080", "connect 443 80, bind 8080"),
        ("connect:443,connect:80", "connect 443 80"),
        ("ro:/,rw:/tmp:/dev,connect:443,scope", "ro /, rw /tmp, rw /dev, connect 443, scope"),
    ],
)
def test_rules_are_told_as_they_were_meant(rules: str, told: str) -> None:
    assert parse(rules, abi=7).describe() == told


@pytest.mark.parametrize(
    "rules",
    [
        "", ",", "ro", "ro:", "rw:/tmp:", "ro:usr", "rx:/usr", "connect:", "connect:http",
        "connect:65536", "connect:-1", "bind:1:", "scope:signal", "ro:/,,rw:/tmp", "connect:٣",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_a_usage_error(rules: str) -> None:
    if rules == "connect:":
        assert parse(rules, abi=7).ports == {"connect": []}
        return
    with pytest.raises(UsageError, match="--security-opt landlock: not a"):
        parse(rules, abi=7)


@pytest.mark.parametrize(
    ("rules", "abi", "message"),
    [
        ("ro:/", 0, "this kernel has no Landlock"),
        ("connect:443", 3, "connect: this kernel has Landlock 3"),
        ("bind", 3, "bind: this kernel has Landlock 3"),
        ("scope", 5, "scope: this kernel has Landlock 5"),
    ],
)
def test_what_the_kernel_lacks_by_name_is_an_error(rules: str, abi: int, message: str) -> None:
    with pytest.raises(HostUnable, match=message):
        parse(rules, abi=abi)


@pytest.mark.parametrize(
    ("abi", "told"),
    [
        (1, "ro /, not held by this kernel: truncation (Linux 6.2), ioctl on devices (Linux 6.10)"),
        (4, "ro /, not held by this kernel: ioctl on devices (Linux 6.10)"),
        (5, "ro /"),
    ],
)
def test_finer_rights_the_kernel_lacks_are_told(abi: int, told: str) -> None:
    assert parse("ro:/", abi=abi).describe() == told


# -- the wall ----------------------------------------------------------------------------------------


@needs_landlock
def test_files_are_read_and_written_where_rules_say(tmp_path: Path) -> None:
    for name in ("open", "readable", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")

    def attempts() -> dict[str, list[str]]:
        return {
            name: [
                outcome(lambda: (tmp_path / name / "file").read_text()),  # noqa: B023
                outcome(lambda: os.listdir(tmp_path / name)),  # noqa: B023
                outcome(lambda: (tmp_path / name / "file").write_text("x")),  # noqa: B023
                outcome(lambda: (tmp_path / name / "new").mkdir()),  # noqa: B023
                outcome(lambda: os.truncate(tmp_path / name / "file", 0)),  # noqa: B023
                outcome(lambda: (tmp_path / name / "file").unlink()),  # noqa: B023
            ]
            for name in ("open", "readable", "closed")
        }

    said = behind(f"rw:{tmp_path}/open,ro:{tmp_path}/readable", attempts)
    assert said["open"] == [""] * 6
    assert said["readable"][:2] == ["", ""]
    assert set(said["readable"][2:]) <= {"EACCES", ""}
    assert said["readable"][2] == said["readable"][3] == said["readable"][5] == "EACCES"
    assert said["closed"][:4] == ["EACCES"] * 4


@needs_landlock
def test_rule_may_be_about_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("text")
    (tmp_path / "two").write_text("text")

    def attempts() -> list[str]:
        return [outcome((tmp_path / name).read_text) for name in ("one", "two")]

    assert behind(f"rw:{tmp_path}/one", attempts) == ["", "EACCES"]


@needs_landlock
def test_command_needs_what_it_is_made_of(tmp_path: Path) -> None:
    def execute() -> str:
        return outcome(lambda: subprocess.run(["/bin/true"], check=True))

    assert behind("ro:/", execute) == ""
    assert behind(f"ro:{tmp_path}", execute) == "EACCES"


@needs_landlock
def test_mounting_is_refused_as_well() -> None:
    script = "mount -t tmpfs none /mnt"

    def enter() -> int:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert behind("rw:/", enter) != 0


@needs_landlock
def test_path_that_is_not_there_is_named() -> None:
    step = parse("ro:/no/such/place")

    def execute() -> list[Any]:
        try:
            step.execute(Stage.__new__(Stage))
        except OSError as problem:
            return [problem.errno, problem.filename]
        return []

    assert in_child(lambda: None, execute) == [2, "/no/such/place"]


@needs_landlock
def test_connections_go_to_named_ports_only() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        addresses = [one.getsockname(), other.getsockname()]

        def attempts() -> list[str]:
            return [outcome(lambda: socket.create_connection(each)) for each in addresses]  # noqa: B023

        if landlock.abi_version() < 4:
            with pytest.raises(HostUnable):
                parse("connect")
            return
        assert behind(f"connect:{addresses[0][1]}", attempts) == ["", "EACCES"]
        assert behind("connect", attempts) == ["EACCES", "EACCES"]
        assert behind("bind", attempts) == ["", ""]


@needs_landlock
def test_listening_is_on_named_ports_only() -> None:
    if landlock.abi_version() < 4:
        pytest.skip("needs Landlock 4, Linux 6.7")

    def attempts() -> str:
        return outcome(lambda: socket.create_server(("127.0.0.1", 0)).close())

    assert behind("bind", attempts) == "EACCES"
    assert behind("bind:0", attempts) == ""


@needs_landlock
def test_scope_keeps_signals_inside() -> None:
    if landlock.abi_version() < 6:
        pytest.skip("needs Landlock 6, Linux 6.12")
    parent = os.getpid()

    def attempts() -> list[str]:
        return [
            outcome(lambda: os.kill(parent, 0)),
            outcome(lambda: os.kill(os.getpid(), signal.SIGURG)),
        ]

    assert behind("scope", attempts) == ["EPERM", ""]
    assert behind("ro:/", attempts) == ["", ""]


@needs_landlock
def test_rules_need_no_new_privs() -> None:
    if os.geteuid() == 0:
        pytest.skip("root has CAP_SYS_ADMIN")
    step = parse("ro:/")
    assert outcome(lambda: step.execute(Stage.__new__(Stage))) == "EPERM"
