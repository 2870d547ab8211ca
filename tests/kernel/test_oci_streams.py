# SPDX-License-Identifier: Apache-2.0
"""What a container made by `rootless-oci` inherits: descriptors, listening sockets, a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lib.oci_runtime import Runtime, read_terminal

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SIZE = {"height": 31, "width": 97}


def inherited(oci: Runtime, bundle: Path, *flags: str, environ: dict[str, str]) -> dict[str, Any]:
    """What `testbox probe` says in a container whose runtime had descriptors 3, 4 and 5."""
    command = oci.command("run", "--bundle", bundle, *flags, "box")
    script = 'exec "$@" 3</dev/null 4</etc/passwd 5</'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False,
        env={**oci.environ, **environ}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ((), {}, [0, 1, 2]),
        (("--preserve-fds", "1"), {}, [0, 1, 2, 3]),
        (("--preserve-fds=2",), {}, [0, 1, 2, 3, 4]),
        ((), {"LISTEN_FDS": "2"}, [0, 1, 2, 3, 4]),
        (("--preserve-fds=1",), {"LISTEN_FDS": "1"}, [0, 1, 2, 3, 4]),
        ((), {"LISTEN_FDS": "0"}, [0, 1, 2]),
        ((), {"LISTEN_FDS": "many"}, [0, 1, 2]),
    ],
)
def test_descriptors_are_those_asked_for(
    oci: Runtime, flags: tuple[str, ...], environ: dict[str, str], expected: list[int]
) -> None:
    """CVE-2024-21626: everything else that the caller leaks ends with us."""
    seen = inherited(oci, oci.bundle("probe"), *flags, environ=environ)
    assert [entry["fd"] for entry in seen["fds"]] == expected


def test_listening_sockets_are_told_to_the_command(oci: Runtime) -> None:
    """sd_listen_fds(3): their number, and the pid they are meant for, as the container counts."""
    bundle = oci.bundle("probe", process={"env": ["PATH=/bin"]})
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "77", "LISTEN_FDNAMES": "a:b"}
    seen = inherited(oci, bundle, environ=environ)["env"]
    assert {name: value for name, value in seen.items() if name.startswith("LISTEN")} == {
        "LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b",
    }  # fmt: skip


def test_preserved_descriptors_are_counted(oci: Runtime) -> None:
    said = oci.refused("create", "--preserve-fds", "3", "-b", oci.bundle("true"), "box")
    assert said == "--preserve-fds 3: descriptor 3 is not open"
    said = oci.refused("create", "-b", oci.bundle("true"), "x", environ={"LISTEN_FDS": "2"})
    assert said == "LISTEN_FDS 2: descriptor 3 is not open"
    assert not oci.root.exists() or os.listdir(oci.root) == []


# -- terminals ---------------------------------------------------------------------------------------


def test_terminal_through_a_console_socket(oci: Runtime) -> None:
    console = oci.console()
    bundle = oci.bundle("tty", process={"terminal": True, "consoleSize": SIZE})
    oci.ok("create", "--bundle", bundle, "--console-socket", console.path, "box")
    pid = oci.state("box")["pid"]
    master = console.master()
    oci.ok("start", "box")
    told = json.loads(read_terminal(master))["tty"]
    assert (told["fds"], told["controlling"], told["name"]) == ([0, 1, 2], 1, "/dev/pts/0")
    assert (told["rows"], told["columns"]) == (31, 97)
    assert oci.wait(pid) == 0


def test_terminal_belongs_to_the_container_and_is_its_console(oci: Runtime) -> None:
    console = oci.console()
    bundle = oci.bundle("stat", "/dev/console", "/dev/pts/0", process={"terminal": True})
    oci.ok("create", "-b", bundle, "--console-socket", console.path, "box")
    pid = oci.state("box")["pid"]
    master = console.master()
    oci.ok("start", "box")
    one, two = (json.loads(line) for line in read_terminal(master).splitlines())
    assert oci.wait(pid) == 0
    assert (one["type"], one["rdev"]) == (two["type"], two["rdev"]) == ("character", [136, 0])


def test_long_path_of_a_console_socket(oci: Runtime) -> None:
    """An address holds 107 bytes; conmon's directories are longer."""
    console = oci.console()
    deep = oci.directory / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    console.path.rename(deep / "socket")
    bundle = oci.bundle("echo", "hello", process={"terminal": True})
    oci.ok("create", "-b", bundle, "--console-socket", deep / "socket", "box")
    pid = oci.state("box")["pid"]
    master = console.master()
    oci.ok("start", "box")
    assert read_terminal(master) == "hello\n"
    assert oci.wait(pid) == 0


def test_terminal_that_nobody_serves_is_refused(oci: Runtime) -> None:
    wanting, plain = oci.bundle("true", process={"terminal": True}), oci.bundle("true")
    for words in (("create",), ("run", "--detach")):
        assert "terminal" in oci.refused(*words, "--bundle", wanting, "box")
    assert "not a TTY" in oci.refused("run", "--bundle", wanting, "box")
    said = oci.refused("create", "--console-socket", "/nowhere", "--bundle", plain, "box")
    assert "process.terminal is not set" in said
    said = oci.refused("create", "--console-socket", "/nowhere", "--bundle", wanting, "box")
    assert said == "cannot connect to the console socket: no such file or directory: /nowhere"
    assert os.listdir(oci.root) == []


def test_run_serves_the_callers_terminal(oci: Runtime) -> None:
    bundle = oci.bundle("each", "tty", ",", "cat", process={"terminal": True})
    ours, theirs = pty.openpty()
    with oci.start("run", "--bundle", bundle, "box", stdin=theirs, stdout=theirs) as running:
        os.close(theirs)
        told = b""
        while b"\n" not in told:
            told += os.read(ours, 4096)
        seen = json.loads(told)["tty"]
        assert (seen["fds"], seen["controlling"]) == ([0, 1, 2], 1)
        os.write(ours, b"typed\n\x04")
        text = read_terminal(ours)
        assert running.wait(60) == 0
    assert text.split() == ["typed", "typed"]  # its echo, and what cat says
