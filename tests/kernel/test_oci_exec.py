# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci exec`: who and where one more process is, what it inherits, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import capability
from tests.lib import waiting
from tests.lib.oci_runtime import SUBORDINATE_IDS, Runtime, read_terminal

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SUBIDS = pytest.mark.needs("subids")
OWN = capability.mask(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"])
Probe = Callable[..., dict[str, Any]]


@pytest.fixture
def running(oci: Runtime) -> Runtime:
    """A container `box` runs."""
    oci.running("box", process={"env": ["PATH=/bin", "A=own", "B=own"]})
    return oci


@pytest.fixture
def mapped(oci: Runtime) -> Runtime:
    """The same with subordinate ids."""
    oci.running("box", linux=SUBORDINATE_IDS, process={"env": ["PATH=/bin"]})
    return oci


def probe(oci: Runtime, *flags: Any) -> dict[str, Any]:
    found: dict[str, Any] = oci.json("exec", *flags, "box", "probe")
    return found


def spelled(oci: Runtime, **changes: Any) -> Path:
    """A file for --process."""
    path = oci.directory / "process.json"
    path.write_text(json.dumps({"cwd": "/", "args": ["probe"], "env": ["PATH=/bin"], **changes}))
    return path


# -- where it is -------------------------------------------------------------------------------------


def test_namespaces_and_root_are_the_containers(running: Runtime) -> None:
    seen = probe(running)
    first = running.state("box")["pid"]
    for name, number in seen["namespaces"].items():
        assert os.stat(f"/proc/{first}/ns/{name}").st_ino == number, name
    assert seen["pid"] != 1
    assert seen["processes"] == [1, seen["pid"]]
    assert running.ok("exec", "box", "ls", "/") == running.ok("exec", "box", "ls", "/proc/1/root/")


def test_working_directory_and_environment(running: Runtime) -> None:
    seen = probe(running, "-e", "A=new", "--env", "C=d=e", "--cwd", "/tmp")
    assert seen["cwd"] == "/tmp"
    assert seen["env"] == {"PATH": "/bin", "A": "new", "B": "own", "C": "d=e", "HOME": "/root"}
    assert probe(running)["cwd"] == "/"
    assert "working directory" in running.refused("exec", "--cwd", "/nowhere", "box", "true")


@pytest.mark.parametrize("where", ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd"])
def test_working_directory_through_proc_is_refused(running: Runtime, where: str) -> None:
    assert "working directory" in running.refused("exec", "--cwd", where, "box", "true")


def test_caller_leaks_no_environment(running: Runtime) -> None:
    seen = running.json("exec", "box", "probe", environ={"SECRET": "s", "LD_PRELOAD": ""})
    assert set(seen["env"]) == {"PATH", "A", "B", "HOME"}


# -- who it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--cap", "CAP_NET_RAW"), ("-c", "CAP_SYS_ADMIN")])
def test_nothing_is_ever_inheritable(running: Runtime, flags: tuple[str, ...]) -> None:
    """CVE-2022-27650."""
    sets = probe(running, *flags)["capabilities"]
    expected = OWN | capability.mask([flags[1]] if flags else [])
    assert sets == {
        "bounding": expected, "permitted": expected, "effective": expected,
        "inheritable": 0, "ambient": 0,
    }  # fmt: skip


def test_unknown_capability_is_refused(running: Runtime) -> None:
    assert "CAP_NONSENSE" in running.refused("exec", "--cap", "CAP_NONSENSE", "box", "true")


@SUBIDS
def test_user_and_groups(mapped: Runtime) -> None:
    seen = probe(mapped, "--user", "1000:50", "-g", "7", "--additional-gids", "8")
    assert (seen["uid"], seen["gid"]) == ([1000] * 3, [50] * 3)
    assert sorted(seen["groups"]) == [7, 8, 50]
    sets = seen["capabilities"]
    assert (sets["effective"], sets["permitted"], sets["inheritable"]) == (0, 0, 0)
    assert probe(mapped, "-u", "1000")["gid"] == [0] * 3
    assert probe(mapped)["uid"] == [0] * 3


def test_unmapped_user_is_refused(running: Runtime) -> None:
    assert "uid 5 is not mapped" in running.refused("exec", "-u", "5", "box", "true")
    assert "gid 5 is not mapped" in running.refused("exec", "-u", "0:5", "box", "true")


@pytest.mark.parametrize("user", ["4294967295", "4294967296", "99999999999", "0x0", "-1", "+1"])
def test_user_that_is_no_id_is_refused(running: Runtime, user: str) -> None:
    """CVE-2024-40635: never taken for another one, least of all 0."""
    running.refused("exec", f"--user={user}", "box", "id")


def test_no_new_privileges(oci: Runtime) -> None:
    oci.running("box", process={"noNewPrivileges": False})
    assert probe(oci)["no_new_privs"] == 0
    assert probe(oci, "--no-new-privs")["no_new_privs"] == 1


@pytest.mark.needs("libseccomp")
@pytest.mark.parametrize("no_new_privs", [True, False])
def test_filter_is_the_containers(oci: Runtime, no_new_privs: bool) -> None:
    calls = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}
    oci.running("box", linux={"seccomp": seccomp}, process={"noNewPrivileges": no_new_privs})
    assert probe(oci)["seccomp"] == 2
    assert "Seccomp_filters:\t1\n" in oci.ok("exec", "box", "cat", "/proc/self/status")
    assert "Permission denied" in oci("exec", "box", "mkdir", "/dev/x").stderr


# -- a process of the specification ------------------------------------------------------------------


def test_process_from_a_file(running: Runtime) -> None:
    sets = {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")}
    limits = [{"type": "RLIMIT_NOFILE", "soft": 30, "hard": 40}]
    user = {"uid": 0, "gid": 0, "umask": 0o77}
    path = spelled(
        running, env=["PATH=/bin", "X=y"], cwd="/tmp", capabilities=sets, rlimits=limits,
        noNewPrivileges=True, user=user,
    )  # fmt: skip
    seen = running.json("exec", "--process", path, "box")
    assert (seen["cwd"], seen["umask"], seen["no_new_privs"]) == ("/tmp", 0o77, 1)
    assert seen["env"] == {"PATH": "/bin", "X": "y", "HOME": "/root"}
    assert seen["capabilities"]["effective"] == capability.mask(["CAP_KILL"])
    assert seen["limits"]["nofile"] == [30, 40]


def test_process_that_is_wrong_is_told(running: Runtime) -> None:
    assert "process.cwd" in running.refused("exec", "-p", spelled(running, cwd="tmp"), "box")
    assert "process.args" in running.refused("exec", "-p", spelled(running, args=[]), "box")
    assert "no such file" in running.refused("exec", "-p", "/nowhere", "box")
    assert "process.args" in running.refused("exec", "box")


# -- how it ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 125, 126, 127, 255])
def test_exit_code_is_the_commands(running: Runtime, code: int) -> None:
    assert running("exec", "box", "exit", str(code)).returncode == code


@pytest.mark.parametrize(
    ("command", "code"), [("nothing", 127), ("/nothing", 127), ("/etc", 126), ("/etc/passwd", 126)]
)
def test_command_that_cannot_run(running: Runtime, command: str, code: int) -> None:
    said = running.refused("exec", "box", command, code=code)
    assert said.startswith(f"cannot run `{command}`: ")


def test_signal_ends_with_128_and_its_number(running: Runtime) -> None:
    with running.start("exec", "box", "sleep", "1000") as process:
        assert waiting.until(lambda: len(running.json("ps", "-f", "json", "box")) == 2)
        _, other = running.json("ps", "-f", "json", "box")
        os.kill(other, signal.SIGTERM)
        assert process.wait(waiting.TIME_LIMIT) == 143


def test_signals_are_forwarded(running: Runtime) -> None:
    with running.start("exec", "box", "signal", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "10\n"
        assert process.wait(waiting.TIME_LIMIT) == 0


def test_detached_with_a_pid_file(running: Runtime) -> None:
    pid_file = running.directory / "pid"
    running.ok("exec", "--detach", "--pid-file", pid_file, "box", "sleep", "1000")
    pid = int(pid_file.read_text())
    assert pid in running.json("ps", "-f", "json", "box")
    os.kill(pid, signal.SIGKILL)
    assert running.wait(pid) == 137


def test_exec_in_a_stopped_container_is_refused(oci: Runtime) -> None:
    pid = oci.running("box", "signal")
    oci.ok("kill", "box", "KILL")
    assert oci.wait(pid) == 137
    assert oci.refused("exec", "box", "true") == "cannot exec in container box: it is stopped"


def test_streams_go_through(running: Runtime) -> None:
    assert running.ok("exec", "box", "cat", input="through") == "through"
    seen = running.json("exec", "box", "fds")
    assert [entry["fd"] for entry in seen["fds"]] == [0, 1, 2]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_preserved_descriptors(running: Runtime, number: int) -> None:
    words = ("exec", "--preserve-fds", str(number), "box", "fds")
    command = ["sh", "-c", 'exec "$@" 3</dev/null 4</dev/null 5<&-', "sh", *running.command(*words)]
    done = subprocess.run(command, env=running.environ, capture_output=True, check=True)
    assert [each["fd"] for each in json.loads(done.stdout)["fds"]] == list(range(3 + number))


def test_preserved_descriptor_that_is_not_open_is_told(running: Runtime) -> None:
    said = running.refused("exec", "--preserve-fds", "9", "box", "fds")
    assert said == "--preserve-fds 9: descriptor 3 is not open"


# -- terminals ---------------------------------------------------------------------------------------


def test_terminal_through_a_console_socket(running: Runtime) -> None:
    console = running.console()
    words = ("exec", "--tty", "--detach", "--pid-file", running.directory / "pid")
    running.ok(*words, "--console-socket", console.path, "box", "tty")
    told = json.loads(read_terminal(console.master()))
    assert (told["tty"]["fds"], told["tty"]["controlling"]) == ([0, 1, 2], 1)
    assert told["tty"]["name"] == "/dev/pts/0"
    assert running.wait(int((running.directory / "pid").read_text())) == 0


def test_terminal_of_a_process_file(running: Runtime) -> None:
    console = running.console()
    path = spelled(running, args=["winsize"], terminal=True,
                   consoleSize={"height": 33, "width": 77})  # fmt: skip
    words = ("exec", "-p", path, "-d", "--pid-file", running.directory / "pid")
    running.ok(*words, "--console-socket", console.path, "box")
    assert read_terminal(console.master()).split() == ["33", "77"]
    assert running.wait(int((running.directory / "pid").read_text())) == 0


def test_terminal_without_anybody_to_serve_it_is_refused(running: Runtime) -> None:
    assert "--console-socket" in running.refused("exec", "-t", "-d", "box", "true")
    assert "not a TTY" in running.refused("exec", "-t", "box", "true")
    missing = running.directory / "missing"
    said = running.refused("exec", "-t", "--console-socket", missing, "box", "true")
    assert said == f"cannot connect to the console socket: no such file or directory: {missing}"
