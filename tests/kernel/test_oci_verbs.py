# SPDX-License-Identifier: Apache-2.0
"""The life of a container by the verbs of `rootless-oci`, from create to delete, and what can come between."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rootless.oci import runtime as specification
from rootless.runtime import cgroup
from tests.lib import waiting
from tests.lib.oci_runtime import Result, Runtime

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SLEEP = ("sleep", "1000")


@pytest.fixture
def created(oci: Runtime) -> str:
    """The id of a container that waits for start."""
    oci.ok("create", "--bundle", oci.bundle(*SLEEP), "box")
    return "box"


@pytest.fixture
def running(oci: Runtime) -> str:
    """The id of a container that runs."""
    oci.running("box")
    return "box"


def stored(oci: Runtime, container_id: str = "box") -> Path:
    return oci.root / container_id / "state.json"


def alter(oci: Runtime, **changes: Any) -> None:
    """Change what is written about the container `box`."""
    state = json.loads(stored(oci).read_text())
    stored(oci).write_text(json.dumps({**state, **changes}))


# -- create and start --------------------------------------------------------------------------------


def test_create_leaves_a_process_waiting(oci: Runtime, tmp_path: Path) -> None:
    bundle = oci.bundle("write", "/mark/ran", "yes", mounts=[bound(tmp_path, "/mark")])
    oci.ok("create", "--bundle", bundle, "box")
    state = oci.state("box")
    assert state["status"] == "created"
    assert "rootless" in Path(f"/proc/{state['pid']}/cmdline").read_text()
    assert not (tmp_path / "ran").exists()
    oci.ok("start", "box")
    assert oci.wait(state["pid"]) == 0
    assert (tmp_path / "ran").read_text() == "yes"
    assert oci.state("box")["status"] == "stopped"


def bound(source: Path, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "source": str(source), "options": ["rbind", *options]}


def test_state_is_what_the_specification_says(oci: Runtime) -> None:
    bundle = oci.bundle(*SLEEP, annotations={"org.example.key": "value"})
    oci.ok("create", "--bundle", bundle, "box")
    state = oci.state("box")
    pid, created = state.pop("pid"), state.pop("created")
    assert isinstance(pid, int)
    assert Path(f"/proc/{pid}").is_dir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", created)
    assert state == {
        "ociVersion": "1.2.0",
        "id": "box",
        "status": "created",
        "bundle": str(bundle),
        "rootfs": str(bundle / "rootfs"),
        "owner": "",
        "annotations": {"org.example.key": "value"},
    }


def test_state_of_a_stopped_container_has_no_pid(oci: Runtime) -> None:
    pid = oci.running("box", "true")
    del pid
    assert waiting.until(lambda: oci.state("box")["status"] == "stopped")
    assert oci.state("box")["pid"] == 0


def test_bundle_is_the_current_directory_and_may_be_relative(oci: Runtime) -> None:
    bundle = oci.bundle("true")
    oci.ok("create", "here", cwd=bundle)
    oci.ok("create", "-b", bundle.name, "there", cwd=bundle.parent)
    assert [oci.state(name)["bundle"] for name in ("here", "there")] == [str(bundle)] * 2


def test_options_may_follow_the_id(oci: Runtime, tmp_path: Path) -> None:
    """As Slurm writes them: `create %n.%u.%j.%s.%t -b %b`."""
    pid_file = tmp_path / "pid"
    oci.ok("create", "box", "-b", oci.bundle(*SLEEP), f"--pid-file={pid_file}")
    assert int(pid_file.read_text()) == oci.state("box")["pid"]
    assert oci.refused("kill", "box", "KILL", "--regex").startswith("--regex is not supported")
    oci.ok("kill", "box", "KILL", "--all")
    assert waiting.until(lambda: oci.state("box")["status"] == "stopped")
    oci.ok("delete", "box", "--force")


def test_second_start_is_refused(oci: Runtime, created: str) -> None:
    oci.ok("start", created)
    assert oci.refused("start", created) == "cannot start container box: it is running"


def test_start_after_process_1_died_is_refused(oci: Runtime, created: str) -> None:
    pid = oci.state(created)["pid"]
    oci.ok("kill", created, "KILL")
    assert oci.wait(pid) == 137
    assert oci.refused("start", created) == "cannot start container box: it is stopped"


def test_configuration_is_the_one_at_create(oci: Runtime, created: str) -> None:
    """The bundle may be gone by then."""
    bundle = Path(oci.state(created)["bundle"])
    (bundle / "config.json").unlink()
    oci.ok("start", created)
    assert oci.ok("exec", created, "echo", "here") == "here\n"


def test_second_create_of_an_id_is_refused(oci: Runtime, created: str) -> None:
    said = oci.refused("create", "--bundle", oci.bundle("true"), created)
    assert said == "container with id exists: box"
    assert oci.state(created)["status"] == "created"


def test_create_that_fails_leaves_nothing(oci: Runtime) -> None:
    said = oci.refused("create", "--bundle", oci.bundle("nothing"), "box", code=127)
    assert said.startswith("cannot run `nothing`")
    assert os.listdir(oci.root) == []
    missing = {"destination": "/m", "source": "/nowhere", "options": ["bind"]}
    oci.refused("create", "--bundle", oci.bundle("true", mounts=[missing]), "box")
    assert os.listdir(oci.root) == []


def test_bundle_without_configuration_is_refused(oci: Runtime, tmp_path: Path) -> None:
    said = oci.refused("create", "--bundle", tmp_path, "box")
    assert said.splitlines() == [
        f"no such file: {tmp_path}/config.json",
        "hint: rootless-oci spec --rootless writes an example",
    ]
    assert "root.path: no such directory" in oci.refused(
        "run", "--bundle", oci.bundle("true", root={"path": "elsewhere"}), "box"
    )
    bundle = oci.bundle("true")
    config = json.loads((bundle / "config.json").read_text())
    del config["process"]
    (bundle / "config.json").write_text(json.dumps(config))
    assert "process: " in oci.refused("run", "--bundle", bundle, "box")


def test_no_pivot_is_refused(oci: Runtime) -> None:
    said = oci.refused("run", "--no-pivot", "--bundle", oci.bundle("true"), "box")
    assert said.startswith("--no-pivot is not supported")


# -- ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_c+d.e", "0", "-dash", "_", "+", "x" * 255])
def test_good_id(oci: Runtime, name: str) -> None:
    oci.ok("create", "--bundle", oci.bundle("true"), "--", name)
    assert oci.json("state", "--", name)["id"] == name
    oci.ok("delete", "--", name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "../x", "a/b", "/etc", ".hidden", "a b", "a\n", "a;b", "ä", "x" * 256,
     "x" * 1024, "\\", "%2e%2e", "a:b"],
)  # fmt: skip
def test_bad_id_is_refused_everywhere(oci: Runtime, name: str) -> None:
    bundle = oci.bundle("true")
    for words in (
        ("create", "-b", bundle), ("run", "-b", bundle), ("state",), ("delete", "-f"), ("start",),
        ("kill",), ("pause",), ("resume",), ("ps",), ("exec",), ("update",), ("events",),
    ):  # fmt: skip
        command = ("true",) if words[0] == "exec" else ()
        assert oci.refused(*words, name, *command).startswith("invalid container id: ")
    assert not oci.root.exists() or os.listdir(oci.root) == []
    assert sorted(os.listdir(oci.directory)) == ["bundle1", "containers"]


def test_unknown_container_is_told_by_every_verb(oci: Runtime) -> None:
    for words in (
        ("state", "x"), ("start", "x"), ("kill", "x"), ("delete", "x"), ("ps", "x"),
        ("exec", "x", "true"), ("pause", "x"), ("resume", "x"), ("update", "x"), ("events", "x"),
    ):  # fmt: skip
        assert oci.refused(*words) == "container x does not exist"
    oci.ok("delete", "--force", "x")  # as runc: the wish is fulfilled


def test_wrong_command_lines_are_told(oci: Runtime) -> None:
    for words in (
        (), ("state",), ("state", "a", "b"), ("start",), ("create", "a", "b"), ("kill",),
        ("kill", "a", "TERM", "x"), ("exec",), ("delete", "--nonsense", "a"), ("nonsense",),
        ("update", "--memory", "much", "a"), ("events", "--interval", "soon", "a"),
        ("create", "--preserve-fds", "x", "a"), ("exec", "--preserve-fds", "x", "a", "true"),
        ("exec", "-g", "x", "a", "true"), ("exec", "-u", "root", "a", "true"),
        ("list", "--format", "xml"),
    ):  # fmt: skip
        if words:
            oci.refused(*words)
    assert oci.ok().startswith("Usage:  rootless-oci")
    assert oci.ok("--version").startswith("rootless-oci version ")
    assert oci.ok("create", "--help").startswith("Usage:  rootless-oci create")


# -- kill and delete ---------------------------------------------------------------------------------


def test_created_container_can_be_killed(oci: Runtime, created: str) -> None:
    pid = oci.state(created)["pid"]
    oci.ok("kill", created, "KILL")
    assert oci.wait(pid) == 137


@pytest.mark.parametrize("name", ["SIGUSR1", "usr1", "10", "RTMIN+3", "SIGRTMAX-2"])
def test_signals_have_names_and_numbers(oci: Runtime, tmp_path: Path, name: str) -> None:
    numbers = {"RTMIN+3": signal.SIGRTMIN + 3, "SIGRTMAX-2": signal.SIGRTMAX - 2}
    out = tmp_path / "out"
    bundle = oci.bundle("signal")
    with out.open("w") as file:
        oci.ok("create", "--bundle", bundle, "box", stdout=file)
    pid = oci.state("box")["pid"]
    oci.ok("start", "box")
    assert waiting.until(lambda: "ready" in out.read_text())
    oci.ok("kill", "box", name)
    assert oci.wait(pid) == 0
    assert out.read_text().split() == ["ready", str(numbers.get(name, 10))]


@pytest.mark.parametrize("name", ["SIGNONSENSE", "0", "65", "-9", "", "1e1", "SIG_IGN", "١"])
def test_unknown_signals_are_refused(oci: Runtime, running: str, name: str) -> None:
    assert oci.refused("kill", "--", running, name).startswith(f"no such signal: {name}")
    assert oci.state(running)["status"] == "running"


def test_killing_a_stopped_container_is_refused(oci: Runtime) -> None:
    oci.ok("create", "--bundle", oci.bundle("true"), "done")
    pid = oci.state("done")["pid"]
    oci.ok("start", "done")
    assert oci.wait(pid) == 0
    assert "it is not running" in oci.refused("kill", "done", "TERM")
    oci.ok("kill", "--all", "done", "KILL")  # what conmon does at the end


def test_kill_all_reaches_every_process(oci: Runtime, running: str) -> None:
    pid = oci.state(running)["pid"]
    with oci.start("exec", running, *SLEEP) as other:
        assert waiting.until(lambda: len(oci.json("ps", "-f", "json", running)) == 2)
        oci.ok("kill", "--all", running, "KILL")
        assert other.wait(waiting.TIME_LIMIT) == 137
    assert oci.wait(pid) == 137


def test_running_container_is_not_deleted_but_by_force(oci: Runtime, running: str) -> None:
    pid = oci.state(running)["pid"]
    said = oci.refused("delete", running)
    assert said == (
        "cannot delete container box: it is not stopped\nhint: rootless-oci delete --force box"
    )
    assert oci.state(running)["status"] == "running"
    oci.ok("delete", "--force", running)
    assert oci.wait(pid) == 137
    assert oci.refused("state", running) == "container box does not exist"


def test_created_container_can_be_deleted(oci: Runtime, created: str) -> None:
    """The specification leaves it open; runc and crun end the process that waits."""
    pid = oci.state(created)["pid"]
    oci.ok("delete", created)
    assert oci.wait(pid) == 137


def test_delete_with_descendants_in_the_container(oci: Runtime, running: str) -> None:
    """Process 1 ends when all others have been reaped, by whoever started them: here by us."""
    pid = oci.state(running)["pid"]
    oci.ok("exec", "--detach", "--pid-file", oci.directory / "pid", running, *SLEEP)
    other = int((oci.directory / "pid").read_text())
    with oci.start("delete", "--force", running) as deleting:
        assert oci.wait(other) == 137
        assert deleting.wait(waiting.TIME_LIMIT) == 0
    assert oci.wait(pid) == 137


# -- what is written is not believed -----------------------------------------------------------------


def test_state_of_an_earlier_boot_is_stopped(oci: Runtime, running: str) -> None:
    pid = oci.state(running)["pid"]
    alter(oci, bootId="11111111-2222-3333-4444-555555555555")
    assert oci.state(running)["status"] == "stopped"
    oci.refused("kill", running, "KILL")
    oci.ok("delete", running)
    assert waiting.until(lambda: not waiting.ended(os.pidfd_open(pid), 0))
    os.kill(pid, signal.SIGKILL)
    assert oci.wait(pid) == 137


@pytest.mark.cve("podman 25104")
def test_recycled_pid_is_left_alone(oci: Runtime, running: str) -> None:
    """The number may be somebody else's by now."""
    pid = oci.state(running)["pid"]
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        alter(oci, pid=stranger.pid)
        assert oci.state(running)["status"] == "stopped"
        oci.refused("kill", running, "KILL")
        oci.ok("kill", "--all", running, "KILL")
        oci.ok("delete", "--force", running)
        assert stranger.poll() is None
        stranger.kill()
    os.kill(pid, signal.SIGKILL)
    assert oci.wait(pid) == 137


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pid": 1}', '{"id": 7}', "\0\0"])
def test_damaged_state_can_be_seen_and_removed(oci: Runtime, running: str, text: str) -> None:
    pid = oci.state(running)["pid"]
    stored(oci).write_text(text)
    for words in (("state", "box"), ("kill", "box"), ("exec", "box", "true"), ("delete", "box")):
        assert oci.refused(*words).startswith("the state of container box is damaged")
    assert oci.ok("list", "--quiet") == "box\n"
    assert oci.json("list", "-f", "json")[0]["status"] == "damaged"
    oci.refused("create", "--bundle", oci.bundle("true"), "box")
    oci.ok("delete", "--force", "box")
    assert oci.ok("list", "--quiet") == ""
    os.kill(pid, signal.SIGKILL)
    assert oci.wait(pid) == 137


@pytest.mark.parametrize("files", [(), ("config.json",), ("config.json.123", ".state-123")])
def test_next_create_takes_over_what_a_killed_one_left(oci: Runtime, files: tuple[str]) -> None:
    (oci.root / "box").mkdir(parents=True)
    for name in files:
        (oci.root / "box" / name).write_text("{")
    os.mkfifo(oci.root / "box" / "exec.fifo")
    assert oci.refused("state", "box") == "container box does not exist"
    assert oci.ok("list", "--quiet") == ""
    oci.ok("create", "--bundle", oci.bundle("true"), "box")
    assert oci.state("box")["status"] == "created"
    names = {"config.json", "exec.fifo", "state.json"}
    assert set(os.listdir(oci.root / "box")) == names


def test_delete_by_force_removes_what_a_killed_create_left(oci: Runtime) -> None:
    (oci.root / "box").mkdir(parents=True)
    oci.ok("delete", "--force", "box")
    assert os.listdir(oci.root) == []


def test_create_that_is_killed_anywhere_leaves_a_usable_id(oci: Runtime) -> None:
    bundle = oci.bundle(*SLEEP)
    for turn in range(12):
        with oci.start("create", "--bundle", bundle, "box", stderr=subprocess.DEVNULL) as killed:
            waiting.until(lambda: (oci.root / "box").exists())
            for _ in range(turn * 2000):
                pass
            killed.kill()
        oci.ok("delete", "--force", "box")
        oci.ok("create", "--bundle", bundle, "box")
        oci.ok("delete", "box")


def test_state_directory_is_the_owners_alone(oci: Runtime) -> None:
    """CVE-2024-25621, CVE-2021-41091 whatever the umask is."""
    before = os.umask(0)
    try:
        oci.running("box")
    finally:
        os.umask(before)
    for path in (oci.root, oci.root / "box"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(stored(oci).stat().st_mode) == 0o600


# -- many at once ------------------------------------------------------------------------------------


def at_once(oci: Runtime, *commands: tuple[Any, ...]) -> list[Result]:
    """All of the command lines, started together."""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    started = [oci.start(*words, stderr=subprocess.PIPE, **streams) for words in commands]
    done = []
    for process in started:
        _, told = process.communicate(timeout=60)
        done.append(Result(process.args, process.returncode, "", told))
    return done


def test_one_of_eight_creates_wins(oci: Runtime) -> None:
    bundle = oci.bundle(*SLEEP)
    for _ in range(3):
        logs = [oci.directory / f"log{number}" for number in range(8)]
        started = []
        for log in logs:
            with log.open("w") as file:
                started.append(oci.start("create", "-b", bundle, "box", stdout=file, stderr=file))
        codes = Counter(process.wait(60) for process in started)
        said = {log.read_text() for log in logs}
        assert codes == {0: 1, 1: 7}
        assert said == {"", "rootless-oci: container with id exists: box\n"}
        assert oci.state("box")["status"] == "created"
        oci.ok("delete", "box")


def test_verbs_in_parallel_tell_one_sentence_or_succeed(oci: Runtime) -> None:
    bundle = oci.bundle(*SLEEP)
    verbs: list[tuple[Any, ...]] = [
        ("state", "box"), ("list",), ("kill", "box", "KILL"), ("start", "box"), ("ps", "box"),
        ("exec", "box", "true"), ("pause", "box"), ("delete", "--force", "box"),
        ("delete", "--force", "box"), ("state", "box"),
    ]  # fmt: skip
    for turn in range(4):
        oci.ok("create", "--bundle", bundle, "box")
        for done in at_once(oci, *verbs[turn:], *verbs[:turn]):
            said = done.stderr
            assert "internal error" not in said
            assert "Traceback" not in said
            assert done.returncode == 0 or said.startswith("rootless-oci: "), done
            assert done.returncode in (0, 1, 137), done
        oci.ok("delete", "--force", "box")


def test_start_wins_once(oci: Runtime, created: str) -> None:
    done = at_once(oci, *[("start", created)] * 4)
    assert sorted(each.returncode for each in done) == [0, 1, 1, 1]


# -- run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 125, 255])
def test_run_gives_the_exit_code_and_deletes(oci: Runtime, code: int) -> None:
    assert oci("run", "--bundle", oci.bundle("exit", str(code)), "box").returncode == code
    assert os.listdir(oci.root) == []


def test_run_passes_streams(oci: Runtime) -> None:
    assert oci.ok("run", "--bundle", oci.bundle("cat"), "box", input="through") == "through"
    told = oci("run", "--bundle", oci.bundle("cat", "/nothing"), "box")
    assert (told.returncode, "/nothing" in told.stderr) == (1, True)


@pytest.mark.parametrize(
    ("command", "code"),
    [("nothing", 127), ("/nothing", 127), ("/etc", 126), ("/etc/passwd", 126), ("/bad", 126)],
)
def test_command_that_cannot_run_gives_126_or_127(oci: Runtime, command: str, code: int) -> None:
    bundle = oci.bundle(command, files={"bad": "not a program"})
    (bundle / "rootfs" / "bad").chmod(0o755)
    said = oci.refused("run", "--bundle", bundle, "box", code=code)
    assert said.startswith(f"cannot run `{command}`: ")
    assert os.listdir(oci.root) == []


def test_run_detached_returns_and_keeps(oci: Runtime, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    bundle = oci.bundle("signal")
    oci.ok("run", "--detach", "--pid-file", pid_file, "--bundle", bundle, "box")
    pid = int(pid_file.read_text())
    assert (oci.state("box")["status"], oci.state("box")["pid"]) == ("running", pid)
    assert "bin/testbox" in os.readlink(f"/proc/{pid}/exe")
    oci.ok("kill", "box", "USR1")
    assert oci.wait(pid) == 0
    oci.ok("delete", "box")


def test_run_keeps_when_asked(oci: Runtime) -> None:
    oci.ok("run", "--keep", "--bundle", oci.bundle("true"), "box")
    assert oci.state("box")["status"] == "stopped"


def test_run_forwards_signals(oci: Runtime) -> None:
    words = ("run", "--bundle", oci.bundle("signal", "2"), "box")
    with oci.start(*words, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        for number in (signal.SIGHUP, signal.SIGUSR2):
            running.send_signal(number)
            assert running.stdout.readline() == f"{int(number)}\n"
        assert running.wait(waiting.TIME_LIMIT) == 0


# -- looking at it -----------------------------------------------------------------------------------


def test_list_shows_every_container(oci: Runtime, created: str) -> None:
    oci.running("other")
    assert oci.ok("list", "--quiet").split() == ["box", "other"]
    found = {each["id"]: each for each in oci.json("list", "--format", "json")}
    assert {name: each["status"] for name, each in found.items()} == {
        "box": "created", "other": "running",
    }  # fmt: skip
    assert found["box"] == oci.state(created)
    lines = oci.ok("list").splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert [line.split()[0] for line in lines[1:]] == ["box", "other"]


def test_list_of_nothing_is_empty(oci: Runtime) -> None:
    assert oci.ok("list", "--quiet") == ""
    assert oci.json("list", "--format", "json") == []


def test_ps_lists_processes(oci: Runtime, running: str) -> None:
    pid = oci.state(running)["pid"]
    assert oci.json("ps", "--format", "json", running) == [pid]
    lines = oci.ok("ps", running).splitlines()
    assert "PID" in lines[0].split()
    assert [str(pid) in line.split() for line in lines[1:]] == [True]
    assert oci.ok("ps", running, "-o", "pid,comm").split()[2:] == [str(pid), "sleep"]
    assert "column PID" in oci.refused("ps", running, "-o", "comm")


def test_pause_stops_and_resume_continues(oci: Runtime, running: str) -> None:
    pid = oci.state(running)["pid"]

    def doing() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    oci.ok("pause", running)
    assert oci.state(running)["status"] == "paused"
    assert waiting.until(lambda: doing() in "TD")
    assert oci.refused("pause", running) == "cannot pause container box: it is paused"
    assert oci.refused("exec", running, "true") == "cannot exec in container box: it is paused"
    oci.ok("resume", running)
    assert oci.state(running)["status"] == "running"
    assert waiting.until(lambda: doing() == "S")
    assert "it is not paused" in oci.refused("resume", running)


def test_exec_waits_for_start(oci: Runtime, created: str) -> None:
    """Process 1 is our program until then; what could enter through it could overwrite it, too."""
    said = oci.refused("exec", created, "true")
    assert said.startswith("cannot exec in container box: its command has not been started")


def test_exec_may_ignore_the_pause(oci: Runtime, running: str) -> None:
    oci.ok("pause", running)
    if json.loads(stored(oci).read_text())["cgroup"]:
        oci.ok("exec", "--ignore-paused", "--detach", running, "true")  # it freezes at once
    else:
        oci.ok("exec", "--ignore-paused", running, "true")


def test_paused_container_can_be_deleted_by_force(oci: Runtime, running: str) -> None:
    oci.ok("pause", running)
    oci.ok("delete", "--force", running)


def test_events_once_and_until_the_end(oci: Runtime, running: str) -> None:
    told = oci.json("events", "--stats", running)
    assert (told["type"], told["id"]) == ("stats", "box")
    assert told["data"]["pids"]["current"] == 1
    assert told["data"]["cpu"]["usage"]["total"] >= 0
    assert told["data"]["memory"]["usage"]["usage"] >= 0
    words = ("events", "--interval", "10ms", running)
    with oci.start(*words, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        oci.ok("kill", running, "KILL")
        assert watching.wait(waiting.TIME_LIMIT) == 0
    assert [line["id"] for line in lines] == ["box", "box"]
    assert "is not running" in oci.refused("events", running)


def test_spec_writes_a_configuration_that_runs(oci: Runtime) -> None:
    bundle = oci.bundle("true")
    assert "exists already" in oci.refused("spec", "--bundle", bundle)
    (bundle / "config.json").unlink()
    oci.ok("spec", "--rootless", cwd=bundle)
    config = specification.load(str(bundle / "config.json"))
    config["process"].update(terminal=False, args=["id"])
    (bundle / "config.json").write_text(json.dumps(config))
    assert oci.ok("run", "--bundle", bundle, "box") == "0:0\n"
    (bundle / "config.json").unlink()
    oci.ok("spec", cwd=bundle)
    specification.load(str(bundle / "config.json"))
    if os.getuid() != 0:
        assert "without a user namespace" in oci.refused("run", "--bundle", bundle, "box")


def test_features_tell_what_there_is(oci: Runtime) -> None:
    told = oci.json("features")
    assert told["ociVersionMin"] == "1.0.0"
    assert told["ociVersionMax"].startswith("1.2")
    assert "poststop" in told["hooks"]
    assert {"rro", "rbind", "tmpcopyup"} <= set(told["mountOptions"])
    assert "user" in told["linux"]["namespaces"]
    assert "CAP_CHOWN" in told["linux"]["capabilities"]
    assert told["linux"]["seccomp"]["enabled"]
    assert "SCMP_ACT_NOTIFY" in told["linux"]["seccomp"]["actions"]


# -- limits ------------------------------------------------------------------------------------------


def test_limit_without_a_cgroup_is_an_error(oci: Runtime, running: str) -> None:
    if cgroup.own_directory() and json.loads(stored(oci).read_text())["cgroup"]:
        pytest.skip("this run has a delegated cgroup")
    said = oci.refused("update", "--pids-limit", "10", running)
    assert "it has no cgroup of its own" in said
    limited = oci.bundle("true", linux={"resources": {"memory": {"limit": 1 << 26}}})
    assert oci.refused("run", "--bundle", limited, "x").startswith("cannot limit memory: ")
    oci.ok("update", running)  # nothing asked for


def test_update_checks_what_it_is_given(oci: Runtime, running: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("[]")
    assert oci.refused("update", "-r", tmp_path / "list", running).startswith("resources: ")
    (tmp_path / "bad").write_text('{"memory": {"limit": "much"}}')
    assert "resources.memory.limit" in oci.refused("update", "-r", tmp_path / "bad", running)
    assert "cannot read the resources" in oci.refused("update", "-r", "-", running, input="{")
    oci.ok("update", "-r", "-", running, input="{}")


@pytest.mark.needs("delegation")
def test_limits_are_set_and_updated(oci: Runtime) -> None:
    resources = {"memory": {"limit": 1 << 26}, "pids": {"limit": 20}}
    oci.running("box", linux={"resources": resources})
    place = Path(json.loads(stored(oci).read_text())["cgroup"])
    assert (place / "memory.max").read_text() == f"{1 << 26}\n"
    assert (place / "pids.max").read_text() == "20\n"
    oci.ok("update", "--pids-limit", "30", "box")
    assert (place / "pids.max").read_text() == "30\n"
    oci.ok("update", "-r", "-", "box", input='{"pids": {"limit": 40}}')
    assert (place / "pids.max").read_text() == "40\n"
    oci.ok("delete", "--force", "box")
    assert not place.exists()


# -- namespaces by path ------------------------------------------------------------------------------


def kinds(*names: str, **paths: str) -> list[dict[str, str]]:
    return [{"type": name} for name in names] + [
        {"type": name, "path": path} for name, path in paths.items()
    ]


def seen(oci: Runtime, container_id: str) -> dict[str, int]:
    found: dict[str, int] = oci.json("exec", container_id, "probe")["namespaces"]
    return found


def test_network_and_ipc_of_another_container(oci: Runtime) -> None:
    """What a pod is made of; its user namespace has to be joined with them."""
    own = kinds("user", "mount", "pid", "ipc", "uts", "network", "cgroup")
    first = oci.running("first", linux={"namespaces": own})
    joined = {name: f"/proc/{first}/ns/{link}" for name, link in
              (("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"))}  # fmt: skip
    spaces = kinds("mount", "pid", "cgroup", **joined)
    maps = {"uidMappings": None, "gidMappings": None}
    oci.running("second", linux={"namespaces": spaces, **maps}, hostname=None)
    one, two = seen(oci, "first"), seen(oci, "second")
    same = {name for name in one if one[name] == two[name]}
    assert same - {"time"} == {"user", "net", "ipc", "uts"}


def test_pid_namespace_of_another_container(oci: Runtime) -> None:
    first = oci.running("first")
    joined = {"user": f"/proc/{first}/ns/user", "pid": f"/proc/{first}/ns/pid"}
    spaces = kinds("mount", "ipc", "uts", "cgroup", **joined)
    maps = {"uidMappings": None, "gidMappings": None}
    second = oci.running("second", linux={"namespaces": spaces, **maps})
    assert len(oci.json("exec", "second", "probe")["processes"]) == 3
    assert seen(oci, "first")["pid"] == seen(oci, "second")["pid"]
    oci.ok("delete", "--force", "second")
    assert oci.wait(second) == 137
    assert oci.state("first")["status"] == "running"


@pytest.mark.parametrize("path", ["/proc/self/ns/nothing", "/etc/passwd", "/proc/self/ns/net"])
def test_path_of_no_such_namespace_is_refused(oci: Runtime, path: str) -> None:
    spaces = kinds("user", "mount", "pid", "uts", ipc=path)
    said = oci.refused("run", "-b", oci.bundle("true", linux={"namespaces": spaces}), "box")
    assert said.startswith("linux.namespaces") or "namespaces" in said
    assert os.listdir(oci.root) == []


# -- the log -----------------------------------------------------------------------------------------


def test_errors_are_written_to_the_log_too(oci: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for form in ("json", "text"):
        oci.refused("--log", log, "--log-format", form, "state", "box")
    first, second = log.read_text().splitlines()
    told = json.loads(first)
    assert (told["level"], told["msg"]) == ("error", "container box does not exist")
    assert time.strptime(told["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert second.endswith('level=error msg="container box does not exist"')
    oci.ok("--log", log, "--debug", "--log-level", "debug", "list")
