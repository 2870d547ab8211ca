# SPDX-License-Identifier: Apache-2.0
"""helpers/init.c, the PID 1 of `run --init`: status, signals, orphans, terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.lib.abilities import find_program

SOURCE = Path(__file__).parents[2] / "helpers" / "init.c"
NEW_PID_NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory, testbox: Path) -> str:
    """The compiled program; `testbox` skips or fails where there is no compiler."""
    program = tmp_path_factory.mktemp("init") / "init"
    compiler = find_program("musl-gcc") or find_program("cc") or "cc"
    subprocess.run([compiler, "-std=c11", "-Wall", "-static", "-o", program, SOURCE], check=True)
    return str(program)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["exit", "42"], 42),
        (["each", "kill", "9", "0"], 128 + 9),
    ],
)
def test_init_exits_with_status_of_command(
    init: str, testbox: Path, command: list[str], code: int
) -> None:
    assert subprocess.run([init, "--", testbox, *command], check=False).returncode == code


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc/passwd", 126), ("/", 126)])
def test_init_that_cannot_execute_says_so(init: str, command: str, code: int) -> None:
    done = subprocess.run([init, "--", command], check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith(f"init: {command}: ")


def test_init_without_command_shows_usage(init: str) -> None:
    done = subprocess.run([init, "--"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (125, "usage: init -- COMMAND [ARGS...]\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGWINCH", "SIGTSTP"])
def test_init_passes_signal_to_command(init: str, testbox: Path, name: str) -> None:
    number = getattr(signal, name)
    with subprocess.Popen([init, "--", testbox, "signal"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"%d\n" % number
    assert process.returncode == 0


@pytest.mark.needs("userns")
def test_init_reaps_orphans(init: str, testbox: Path) -> None:
    command = [*NEW_PID_NAMESPACE, init, "--", str(testbox), "orphans", "20"]
    assert subprocess.check_output(command, text=True) == "0\n"


@pytest.mark.needs("userns")
def test_without_init_orphans_stay(testbox: Path) -> None:
    command = [*NEW_PID_NAMESPACE, str(testbox), "orphans", "3"]
    assert subprocess.check_output(command, text=True) == "3\n"


def test_init_gives_command_default_signals_and_own_group(init: str, testbox: Path) -> None:
    seen = json.loads(subprocess.check_output([init, "--", testbox, "probe"]))
    assert seen["signals_blocked"] == []
    assert seen["pgid"] == seen["pid"]
    assert [fd["fd"] for fd in seen["fds"]] == [0, 1, 2]


def test_init_hands_terminal_to_command(init: str, testbox: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(init, [init, "--", str(testbox), "tty"])
    output = b""
    try:
        while chunk := os.read(terminal, 4096):
            output += chunk
    except OSError:  # EIO: the last process has closed the terminal
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    tty = json.loads(output)["tty"]
    assert tty["fds"] == [0, 1, 2]
    assert tty["controlling"] == 1
    assert tty["foreground_group"] not in (pid, -1)
