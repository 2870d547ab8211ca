# SPDX-License-Identifier: Apache-2.0
"""Hooks of all six kinds: when they run, what they are told, what they inherit, what a failure undoes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.runtime.hooks import MOMENTS
from tests.lib import waiting
from tests.lib.oci_runtime import Runtime

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

# startContainer runs in the container: its program is one of the image.
OUTSIDE = tuple(moment for moment in MOMENTS if moment != "startContainer")
SLEEP = ("sleep", "1000")


class Journal:
    """A program that writes down, in one line, which hook it was and what it was told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "journal"
        self.file.touch()
        self.program = directory / "hook"
        self.program.write_text(
            f'#!/bin/sh\nread -r state\nprintf \'%s %s\\n\' "$1" "$state" >> {self.file}\n'
        )
        self.program.chmod(0o755)

    def hook(self, name: str, **more: Any) -> dict[str, Any]:
        return {"path": str(self.program), "args": ["hook", name], **more}

    def script(self, text: str) -> dict[str, Any]:
        """A hook that does something else."""
        program = self.directory / f"script{len(list(self.directory.iterdir()))}"
        program.write_text("#!/bin/sh\n" + text)
        program.chmod(0o755)
        return {"path": str(program), "args": ["script"]}

    def entries(self) -> list[tuple[str, dict[str, Any]]]:
        lines = (line.split(" ", 1) for line in self.file.read_text().splitlines())
        return [(name, json.loads(state)) for name, state in lines]

    def names(self) -> list[str]:
        return [name for name, _ in self.entries()]


@pytest.fixture
def journal(oci: Runtime) -> Journal:
    (oci.directory / "hooks").mkdir()
    return Journal(oci.directory / "hooks")


def mounted(oci: Runtime) -> list[dict[str, Any]]:
    """Where a command of the container writes what the test reads."""
    (oci.directory / "out").mkdir(exist_ok=True)
    source = str(oci.directory / "out")
    return [{"destination": "/out", "source": source, "options": ["bind"]}]


def test_all_kinds_run_in_order_and_are_told_the_state(oci: Runtime, journal: Journal) -> None:
    hooks: dict[str, Any] = {
        moment: [journal.hook(f"{moment}1"), journal.hook(f"{moment}2")] for moment in OUTSIDE
    }
    hooks["startContainer"] = [
        {"path": "/bin/testbox", "args": ["write", "/out/started", "x"]},
    ]
    bundle = oci.bundle(*SLEEP, hooks=hooks, annotations={"a.b": "c"}, mounts=mounted(oci))
    oci.ok("create", "--bundle", bundle, "box")
    pid = oci.state("box")["pid"]
    early = ["prestart", "createRuntime", "createContainer"]
    assert journal.names() == [f"{moment}{n}" for moment in early for n in (1, 2)]
    assert not (oci.directory / "out" / "started").exists()
    oci.ok("start", "box")
    assert journal.names()[6:] == ["poststart1", "poststart2"]
    assert waiting.until((oci.directory / "out" / "started").exists)
    oci.ok("kill", "box", "KILL")
    assert oci.wait(pid) == 137
    assert len(journal.names()) == 8
    oci.ok("delete", "box")
    assert journal.names()[8:] == ["poststop1", "poststop2"]
    for name, state in journal.entries():
        moment = name[:-1]
        assert state["ociVersion"] == "1.2.0"
        assert (state["id"], state["bundle"]) == ("box", str(bundle))
        assert state["annotations"] == {"a.b": "c"}
        status = {"poststart": "running", "poststop": "stopped"}.get(moment, "creating")
        assert (state["status"], state["pid"]) == (status, 0 if moment == "poststop" else pid)


def test_run_runs_all_of_them_too(oci: Runtime, journal: Journal) -> None:
    hooks = {moment: [journal.hook(moment)] for moment in OUTSIDE}
    assert oci("run", "--bundle", oci.bundle("exit", "3", hooks=hooks), "box").returncode == 3
    assert journal.names() == list(OUTSIDE)


@pytest.mark.cve("CVE-2025-23266", "CVE-2024-0132", "CVE-2024-0133")
def test_environment_is_the_hooks_own(oci: Runtime, journal: Journal) -> None:
    """Neither the image's environment nor the caller's reaches a program of the host."""
    out = oci.directory / "environ"
    script = journal.script(f"env >> {out}; pwd >> {out}.cwd; ls /proc/self/fd >> {out}.fds\n")
    hooks = {moment: [{**script, "env": ["MINE=1"]}] for moment in OUTSIDE}
    evil = ["PATH=/evil", "LD_PRELOAD=/evil.so", "BASH_ENV=/evil", "PYTHONPATH=/evil"]
    bundle = oci.bundle("/bin/true", hooks=hooks, process={"env": evil})
    oci.ok("run", "--bundle", bundle, "box", environ={"SECRET": "s"})
    names = {line.partition("=")[0] for line in out.read_text().splitlines()}
    assert names == {"MINE", "PATH", "PWD"}  # the shell itself adds PWD
    assert "evil" not in out.read_text()
    rootfs = str(bundle / "rootfs")
    assert not any(line.startswith(rootfs) for line in Path(f"{out}.cwd").read_text().split())
    descriptors = Path(f"{out}.fds").read_text().split()
    assert set(descriptors) == {"0", "1", "2", "3"}  # ls has opened the directory


def test_host_hooks_can_enter_the_namespaces(oci: Runtime, journal: Journal) -> None:
    """What makes a network opens /proc/PID/ns/net of a container that is just being made."""
    out = oci.directory / "inode"
    script = journal.script(
        "read -r state; pid=${state#*'\"pid\":'}; pid=${pid%%,*}\n"
        f"readlink /proc/$pid/ns/net /proc/$pid/ns/user >> {out}\n"
    )
    spaces = [{"type": kind} for kind in ("user", "mount", "pid", "network", "ipc", "uts")]
    bundle = oci.bundle(*SLEEP, hooks={"createRuntime": [script]}, linux={"namespaces": spaces})
    oci.ok("create", "--bundle", bundle, "box")
    oci.ok("start", "box")
    seen = oci.json("exec", "box", "probe")["namespaces"]
    assert out.read_text().split() == [f"net:[{seen['net']}]", f"user:[{seen['user']}]"]


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_failing_hook_undoes_everything(
    oci: Runtime, journal: Journal, moment: str, verb: str
) -> None:
    failing = journal.script("exit 7\n")
    hooks = {moment: [journal.hook("before"), failing, journal.hook("after")]}
    bundle = oci.bundle("write", "/out/ran", "x", hooks=hooks, mounts=mounted(oci))
    said = oci.refused(verb, "--bundle", bundle, "box")
    assert "hook failed with status 7" in said
    assert failing["path"] in said
    assert journal.names() == ["before"]
    assert os.listdir(oci.root) == []
    assert not (oci.directory / "out" / "ran").exists()


def test_hook_that_is_not_there_is_told(oci: Runtime) -> None:
    hooks = {"createRuntime": [{"path": "/nowhere/hook"}]}
    said = oci.refused("create", "--bundle", oci.bundle("true", hooks=hooks), "box")
    assert "cannot run hook" in said
    assert "/nowhere/hook" in said
    assert os.listdir(oci.root) == []


@pytest.mark.parametrize("annotations", [{}, {"big": "x" * 200_000}])
def test_hook_beyond_its_timeout_is_killed(
    oci: Runtime, journal: Journal, annotations: dict[str, str]
) -> None:
    """Also one that does not read a state that is larger than a pipe."""
    slow = {**journal.script("exec sleep 1000\n"), "timeout": 1}
    bundle = oci.bundle("true", hooks={"prestart": [slow]}, annotations=annotations)
    said = oci.refused("create", "--bundle", bundle, "box")
    assert "timeout of 1 s" in said
    assert os.listdir(oci.root) == []


def test_hook_that_does_not_read_is_no_failure(oci: Runtime, journal: Journal) -> None:
    hooks = {"prestart": [journal.script("exit 0\n")]}
    big = {"big": "x" * 200_000}
    oci.ok("run", "--bundle", oci.bundle("true", hooks=hooks, annotations=big), "box")


def test_failing_start_container_hook_keeps_the_command_from_running(oci: Runtime) -> None:
    hooks = {"startContainer": [{"path": "/bin/false", "args": ["false"]}]}
    bundle = oci.bundle("write", "/out/ran", "x", hooks=hooks, mounts=mounted(oci))
    assert "hook failed with status 1" in oci.refused("run", "--bundle", bundle, "box")
    oci.ok("create", "--bundle", bundle, "box")
    pid = oci.state("box")["pid"]
    oci("start", "box")
    assert oci.wait(pid) != 0
    assert not (oci.directory / "out" / "ran").exists()


@pytest.mark.parametrize("verb", ["start", "run"])
def test_failing_poststart_hook_stops_the_container(
    oci: Runtime, journal: Journal, verb: str
) -> None:
    """runtime.md, "Lifecycle": generate an error, stop the container."""
    hooks = {"poststart": [journal.script("exit 1\n")]}
    bundle = oci.bundle(*SLEEP, hooks=hooks)
    if verb == "run":
        oci.refused("run", "--bundle", bundle, "box")
        return
    oci.ok("create", "--bundle", bundle, "box")
    pid = oci.state("box")["pid"]
    with oci.start("start", "box") as starting:
        assert oci.wait(pid) == 137
        assert starting.wait(waiting.TIME_LIMIT) == 1
    assert oci.state("box")["status"] == "stopped"


def test_failing_poststop_hook_is_only_told(oci: Runtime, journal: Journal) -> None:
    """runtime.md, "Lifecycle": the others run, the container is gone, delete succeeds."""
    hooks = {"poststop": [journal.script("exit 1\n"), journal.hook("after")]}
    oci.ok("create", "--bundle", oci.bundle("true", hooks=hooks), "box")
    done = oci("delete", "box")
    assert done.returncode == 0
    assert "hook failed with status 1" in done.stderr
    assert journal.names() == ["after"]
    assert os.listdir(oci.root) == []
