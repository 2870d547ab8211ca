# SPDX-License-Identifier: Apache-2.0
"""state.json is believed as far as the facts go: this boot, this process, nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostUnable, NotFound
from rootless.linux import process
from rootless.runtime import state


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as running:
        yield running
        if running.stdin and not running.stdin.closed:
            running.stdin.close()


@pytest.fixture
def directory(tmp_path: Path, child: subprocess.Popen[bytes]) -> str:
    where = str(tmp_path / "container")
    state.save(where, "c1", child.pid, "/bundle", {"a": "b"})
    return where


def stored(directory: str, **changes: Any) -> dict[str, Any]:
    found = state.load(directory)
    assert found is not None
    return {**found, **changes}


def test_saved_state_comes_back_and_is_alive(directory: str) -> None:
    found = stored(directory)
    assert (found["id"], found["bundle"], found["annotations"]) == ("c1", "/bundle", {"a": "b"})
    assert state.is_alive(found)
    assert state.status(found) == "running"
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.listdir(directory) == ["state.json"]


def test_process_of_an_earlier_boot_is_stopped(directory: str) -> None:
    earlier = stored(directory, bootId="00000000-0000-0000-0000-000000000000")
    assert not state.is_alive(earlier)
    assert state.status(earlier) == "stopped"


def test_recycled_pid_is_stopped(directory: str) -> None:
    assert state.status(stored(directory, startTime=1)) == "stopped"
    assert state.status(stored(directory, pid=os.getpid())) == "stopped"


def test_pid_that_is_not_there_is_stopped(directory: str) -> None:
    assert state.status(stored(directory, pid=2**22)) == "stopped"


def test_zombie_is_stopped(directory: str, child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    assert state.status(state.load(directory)) == "stopped"
    with pytest.raises(NotFound, match="container c1 is not running"):
        state.open_process(stored(directory))


def test_paused_and_created_are_told(directory: str) -> None:
    assert state.status(stored(directory, status="created")) == "created"
    assert state.status(stored(directory, paused=True)) == "paused"


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", "[]", '"text"', "null", "7", '{"pid":1}', "{}"]
)
def test_damaged_state_is_stopped(directory: str, text: str) -> None:
    Path(directory, "state.json").write_text(text)
    assert state.status(state.load(directory)) == "stopped"


@pytest.mark.parametrize("pid", ["x", None, "1/../self", -1, 0, 2**70, 1.5])
def test_nonsense_in_place_of_a_pid_is_stopped(directory: str, pid: object) -> None:
    state.write(directory, stored(directory, pid=pid))
    assert state.status(state.load(directory)) == "stopped"


def test_missing_state_is_none(tmp_path: Path) -> None:
    assert state.load(str(tmp_path)) is None
    assert state.load(str(tmp_path / "missing")) is None
    assert state.status(None) == "stopped"


def test_open_process_is_that_process(directory: str, child: subprocess.Popen[bytes]) -> None:
    pidfd = state.open_process(stored(directory))
    process.pidfd_send_signal(pidfd, 15)
    os.close(pidfd)
    assert child.wait() == -15


def test_remove_is_final_and_may_be_repeated(directory: str) -> None:
    state.remove(directory)
    state.remove(directory)
    assert not os.path.exists(directory)


def test_runtime_directory_is_made_private(tmp_path: Path) -> None:
    run = tmp_path / "run"
    state.ensure_runtime_directory(str(run))
    assert run.stat().st_mode & 0o777 == 0o700
    run.chmod(0o755)
    state.ensure_runtime_directory(str(run))
    assert run.stat().st_mode & 0o777 == 0o755  # one that was there before is left as it is
    run.chmod(0o777)
    with pytest.raises(HostUnable, match="others may write"):
        state.ensure_runtime_directory(str(run))


def test_runtime_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "link"), str(tmp_path / "file")):
        with pytest.raises(HostUnable, match="belongs to somebody else") as failed:
            state.ensure_runtime_directory(place)
        assert "ROOTLESS_RUN" in failed.value.hint


def test_runtime_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(HostUnable, match="cannot make the runtime directory /proc/x/y"):
        state.ensure_runtime_directory("/proc/x/y")
