# SPDX-License-Identifier: Apache-2.0
"""podman and buildah with `rootless-oci` as their runtime: what works without a delegated cgroup."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import capability
from rootless.runtime import idmap, userns
from tests.lib import oci_runtime, waiting
from tests.lib import rootfs as root_file_systems
from tests.lib.abilities import find_program

pytestmark = [pytest.mark.needs("podman", "conmon", "cgroup2", "subids", "overlay")]

TIME_LIMIT = 60.0


class Podman:
    """podman and buildah on a store of their own, with a runtime that writes down how it is called."""

    def __init__(self, directory: Path, run: Path) -> None:
        self.directory = directory
        self.calls = directory / "calls"
        self.calls.touch()
        real = oci_runtime.executable(directory)
        self.runtime = directory / "runtime"
        # conmon ends the environment of what it starts: nothing but the path can be relied on.
        script = f'#!/bin/sh\necho "$@" >> {self.calls}\nexec {real} "$@"\n'
        self.runtime.write_text(script)
        self.runtime.chmod(0o755)
        config = directory / "config" / "containers"
        config.mkdir(parents=True)
        (config / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/store"\nrunroot = "{run}/r"\n'
        )
        (config / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environ = {
            "HOME": str(directory),
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(directory / "config"),
            "XDG_RUNTIME_DIR": str(run),
            "BUILDAH_ISOLATION": "oci",
        }

    def command(self, *words: str | Path) -> list[str | Path]:
        flags = ["--cgroup-manager=cgroupfs", "--events-backend=file"]
        return [str(find_program("podman")), "--runtime", self.runtime, *flags, *words]

    def __call__(self, *words: str | Path, input: str | None = None) -> str:
        """Standard output of a podman command that has to succeed."""
        done = self.attempt(*words, input=input)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def attempt(
        self, *words: str | Path, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self._run(self.command(*words), input)

    def buildah(self, *words: str | Path) -> str:
        """Standard output of a buildah command that has to succeed."""
        done = self._run([str(find_program("buildah")), *words], None)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def _run(
        self, command: list[str | Path], input: str | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=input, stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True, text=True, check=False, env=self.environ, timeout=TIME_LIMIT,
            cwd=self.directory,
        )  # fmt: skip

    def verbs(self) -> set[str]:
        """The verbs of the runtime that have been used."""
        return {word for line in self.calls.read_text().splitlines() for word in line.split()} & {
            "create", "start", "state", "kill", "delete", "exec", "run", "pause", "resume", "ps",
        }  # fmt: skip

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self("inspect", name))
        return dict(found)

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.attempt("rm", "--all", "--force", "--time=0")
            self.attempt("system", "migrate")  # ends the process that keeps its user namespace


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, testbox: Path) -> Iterator[Podman]:
    """With an image `testbox`. One for all tests here: making a store takes podman a second."""
    directory = tmp_path_factory.mktemp("podman")
    # A short path: with a long one podman misses the end of its container and waits 20 s for it.
    run = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
    made = Podman(directory, run)
    root = root_file_systems.build(directory / "rootfs", testbox)
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    made("import", "--quiet", "--change=ENV PATH=/bin", archive, "testbox")
    yield made
    made.close()
    userns.remove_tree(idmap.default(), str(directory / "store"))
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture
def container(podman: Podman, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a container that waits for signals."""
    name = f"c{abs(hash(request.node.name))}"
    podman("run", "--detach", "--network=none", "--name", name, "testbox", "signal", "100")
    yield name
    podman("rm", "--force", "--time=0", name)


# -- run ---------------------------------------------------------------------------------------------


def test_run_and_its_view(podman: Podman) -> None:
    seen = json.loads(podman("run", "--rm", "--network=none", "testbox", "probe"))
    assert (seen["pid"], seen["uid"], seen["processes"]) == (1, [0] * 3, [1])
    assert [entry["fd"] for entry in seen["fds"]] == [0, 1, 2]
    assert seen["capabilities"]["inheritable"] == 0
    assert seen["capabilities"]["effective"] & capability.mask(["CAP_SYS_ADMIN"]) == 0
    assert seen["seccomp"] == 2
    assert {"create", "start", "delete"} <= podman.verbs()


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_of_run(podman: Podman, code: int) -> None:
    done = podman.attempt("run", "--rm", "--network=none", "testbox", "exit", str(code))
    assert done.returncode == code


def test_command_that_is_not_there(podman: Podman) -> None:
    done = podman.attempt("run", "--rm", "--network=none", "testbox", "nothing")
    assert done.returncode == 127
    assert "cannot run `nothing`" in done.stderr  # our words, through podman
    done = podman.attempt("run", "--rm", "--network=none", "testbox", "/etc")
    assert done.returncode == 126


def test_standard_input(podman: Podman) -> None:
    words = ("run", "--rm", "--interactive", "--network=none", "testbox", "cat")
    assert podman(*words, input="through") == "through"


@pytest.mark.parametrize(
    ("flags", "check"),
    [
        (("--user", "1000:1000"), lambda seen: seen["uid"] == [1000] * 3),
        (("--read-only",), lambda seen: "ro" in options(seen, "/")),
        (("--cap-drop=all",), lambda seen: seen["capabilities"]["bounding"] == 0),
        (("--hostname", "box"), lambda seen: seen["hostname"] == "box"),
        (("--security-opt=no-new-privileges",), lambda seen: seen["no_new_privs"] == 1),
        (("--workdir", "/tmp"), lambda seen: seen["cwd"] == "/tmp"),
        (("--ulimit", "nofile=33:44"), lambda seen: seen["limits"]["nofile"] == [33, 44]),
        (("--userns=keep-id",), lambda seen: seen["uid"] == [os.getuid()] * 3),
        (("--tmpfs", "/scratch"), lambda seen: "nodev" in options(seen, "/scratch")),
        (("--shm-size=1m",), lambda seen: "size=1024k" in options(seen, "/dev/shm")),
    ],
)  # fmt: skip
def test_flags_of_run(
    podman: Podman, flags: tuple[str, ...], check: Callable[[dict[str, Any]], bool]
) -> None:
    told = podman("run", "--rm", "--network=none", *flags, "testbox", "/bin/testbox", "probe")
    assert check(json.loads(told)), told


def options(seen: dict[str, Any], target: str) -> set[str]:
    (*_, entry) = [each for each in seen["mounts"] if each["target"] == target]
    return {*entry["options"].split(","), *entry["super_options"].split(",")}


def test_volume(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ours")
    words = ("run", "--rm", "--network=none", "-v", f"{tmp_path}:/here:ro", "testbox")
    assert podman(*words, "cat", "/here/file") == "ours"
    assert podman.attempt(*words, "write", "/here/file", "x").returncode == 1


def test_terminal(podman: Podman) -> None:
    ours, theirs = pty.openpty()
    command = podman.command("run", "--rm", "-it", "--network=none", "testbox", "tty")
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=podman.environ
    ) as running:
        os.close(theirs)
        text = oci_runtime.read_terminal(ours)
        assert running.wait(TIME_LIMIT) == 0
    told = json.loads(text)["tty"]
    assert (told["fds"], told["controlling"]) == ([0, 1, 2], 1)


# -- a container that stays --------------------------------------------------------------------------


def test_exec(podman: Podman, container: str) -> None:
    assert podman("exec", container, "echo", "hello") == "hello\n"
    assert podman("exec", "-i", container, "cat", input="through") == "through"
    seen = json.loads(podman("exec", "-w", "/tmp", "-e", "A=b", "-u", "1", container, "probe"))
    assert (seen["cwd"], seen["env"]["A"], seen["uid"]) == ("/tmp", "b", [1] * 3)
    assert seen["capabilities"]["inheritable"] == 0
    for code in (3, 126):
        assert podman.attempt("exec", container, "exit", str(code)).returncode == code
    assert podman.attempt("exec", container, "nothing").returncode == 127
    assert "exec" in podman.verbs()


def test_logs(podman: Podman, container: str) -> None:
    podman("kill", "--signal=USR1", container)
    assert waiting.until(lambda: podman("logs", container).split() == ["ready", "10"])


def test_kill_and_exit_code(podman: Podman, container: str) -> None:
    podman("kill", container)
    assert podman("wait", container).strip() == "137"
    state = podman.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


def test_stop_start_and_restart(podman: Podman, container: str) -> None:
    podman("stop", "--time=0", container)
    assert podman.inspect(container)["State"]["Running"] is False
    podman("start", container)
    assert podman.inspect(container)["State"]["Running"] is True
    podman("restart", "--time=0", container)
    assert podman("exec", container, "echo", "again") == "again\n"


def test_inspect_names_the_runtime_and_the_process(podman: Podman, container: str) -> None:
    told = podman.inspect(container)
    assert told["OCIRuntime"] == str(podman.runtime)
    assert told["State"]["Status"] == "running"
    assert Path(f"/proc/{told['State']['Pid']}/comm").read_text() == "signal\n"


def test_top_lists_the_process(podman: Podman, container: str) -> None:
    assert podman("top", container, "pid", "comm").split()[-2:] == ["1", "signal"]


def test_health_check(podman: Podman) -> None:
    for code in (0, 1):
        name = f"health{code}"
        podman(
            "run", "-d", "--network=none", "--name", name, "--health-interval=disable",
            "--health-retries=1", f'--health-cmd=["exit", "{code}"]', "testbox", "sleep", "1000",
        )  # fmt: skip
        assert podman.attempt("healthcheck", "run", name).returncode == code
        podman("rm", "--force", "--time=0", name)


def test_commit_of_a_container(podman: Podman, container: str) -> None:
    podman("exec", container, "write", "/made", "x")
    podman("commit", "--quiet", "--pause=false", container, "committed")
    assert podman("run", "--rm", "--network=none", "committed", "cat", "/made") == "x"


# -- building ----------------------------------------------------------------------------------------


def test_build_of_three_steps(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied")
    (tmp_path / "Dockerfile").write_text(
        "FROM localhost/testbox\nCOPY file /copied\n"
        'RUN ["write", "/made", "by run"]\nRUN ["each", "chmod", "700", "/made", ",", "cat", "/copied"]\n'
        'USER 1000\nCMD ["cat", "/copied"]\n'
    )
    podman.calls.write_text("")
    out = podman("build", "--isolation=oci", "--network=none", "--tag", "built", tmp_path)
    assert "copied" in out
    assert {"create", "start", "delete"} <= podman.verbs()
    assert podman("run", "--rm", "--network=none", "built") == "copied"
    words = ("run", "--rm", "--network=none", "--user=0", "built", "cat", "/made")
    assert podman(*words) == "by run"


def test_failing_step_of_a_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM localhost/testbox\nRUN ["exit", "7"]\n')
    done = podman.attempt("build", "--isolation=oci", "--network=none", tmp_path)
    assert done.returncode == 7
    assert "exit status 7" in done.stderr


@pytest.mark.needs("buildah")
def test_buildah(podman: Podman) -> None:
    name = podman.buildah("from", "localhost/testbox").strip()
    podman.calls.write_text("")
    words = ("run", "--runtime", podman.runtime, "--network=none", name, "--")
    assert podman.buildah(*words, "echo", "hello") == "hello\n"
    podman.buildah(*words, "write", "/made", "by buildah")
    assert {"create", "start", "delete"} <= podman.verbs()
    podman.buildah("commit", "--quiet", name, "by-buildah")
    podman.buildah("rm", name)
    told = podman("run", "--rm", "--network=none", "by-buildah", "cat", "/made")
    assert told == "by buildah"
