# SPDX-License-Identifier: Apache-2.0
"""Launching below the command line: how a command ends, and that a failed step leaves nothing."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import config as oci_config
from rootless.engine.request import Request
from rootless.errors import (
    CommandNotExecutable,
    CommandNotFound,
    HostUnable,
    Interrupted,
    LaunchFailed,
    RootlessError,
)
from rootless.linux import prctl
from rootless.runtime import compose, idmap, launch
from rootless.runtime import rootfs as steps
from rootless.runtime.idmap import IdMap
from rootless.runtime.recipe import Recipe
from rootless.runtime.rootfs import Stage, Step

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SINGLE = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")
Rootfs = Callable[..., Path]
Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def no_subreaper() -> Iterator[None]:
    yield
    prctl.set_child_subreaper(False)


@pytest.fixture
def recipe(rootfs: Rootfs) -> Make:
    """A function that makes the launch of a command in a new root file system."""
    root = rootfs()

    def make(*command: str, id_map: IdMap = SINGLE, user: str = "", **changes: Any) -> Recipe:
        request = Request("test", list(command))
        for name, value in changes.items():
            setattr(request, name, value)
        config = oci_config.build(request, {}, "f" * 64, not id_map.is_single)
        config["mounts"] += request.mounts
        root_step = steps.BindRoot(str(root), "test")
        return compose.compose(config, root_step, id_map, user=user, create_directory=True)

    return make


def run(made: Recipe) -> int:
    return launch.start(made).wait()


def test_every_exit_code_comes_back(recipe: Make) -> None:
    for code in range(0, 256, 15):
        assert run(recipe("exit", str(code))) == code


@pytest.mark.parametrize("number", [signal.SIGKILL])
def test_killed_command_ends_with_128_and_the_signal(recipe: Make, number: int) -> None:
    process = launch.start(recipe("sleep", "1000"))
    process.send_signal(number)
    assert process.wait() == 128 + number


def test_signal_without_a_handler_does_not_reach_process_1(recipe: Make) -> None:
    """pid_namespaces(7): only SIGKILL and SIGSTOP come from outside uninvited."""
    process = launch.start(recipe("sleep", "1000"))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == 128 + signal.SIGKILL


def test_signal_to_one_that_has_ended_is_no_error(recipe: Make) -> None:
    process = launch.start(recipe("true"))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("nosuch", CommandNotFound, "cannot run `nosuch`: executable file not found in \\$PATH"),
        ("/bin/nosuch", CommandNotFound, "cannot run `/bin/nosuch`: no such file in the container"),
        ("/etc/passwd/x", CommandNotExecutable, "cannot run `/etc/passwd/x`: not a directory"),
        ("/etc", CommandNotExecutable, "cannot run `/etc`: is a directory"),
        ("/etc/passwd", CommandNotExecutable, "cannot run `/etc/passwd`: permission denied"),
        ("plain", CommandNotExecutable, "cannot run `plain`: permission denied"),
        ("/bin/text", CommandNotExecutable, "cannot run `/bin/text`: exec format error"),
        ("/bin/empty", CommandNotExecutable, "cannot run `/bin/empty`: exec format error"),
        ("/bin/script", CommandNotFound, "no such file in the container, or its interpreter"),
        ("", CommandNotFound, "cannot run ``: "),
        ("..", CommandNotFound, "cannot run `..`: "),
        ("x" * 5000, CommandNotFound, "executable file not found"),
        ("/" + "x" * 300, CommandNotExecutable, "file name too long"),
        ("y" * 131_000, CommandNotFound, "executable file not found"),
    ],
)
def test_command_that_cannot_be_run(
    recipe: Make, tmp_path: Path, command: str, kind: type[LaunchFailed], message: str
) -> None:
    for name, text, mode in (
        ("plain", "#!/bin/true\n", 0o644),
        ("text", "just words\n", 0o755),
        ("empty", "", 0o755),
        ("script", "#!/no/such/interpreter\n", 0o755),
    ):
        file = tmp_path / "rootfs" / "bin" / name
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(LaunchFailed, match=message) as failed:
        launch.start(recipe(command))
    assert type(failed.value) is kind
    assert failed.value.exit_code == {CommandNotFound: 127, CommandNotExecutable: 126}[kind]


def test_directory_of_that_name_in_path_is_passed_over(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "rootfs" / "first" / "true").mkdir(parents=True)
    assert run(recipe("true", env=["PATH=/first:/nosuch:/bin"])) == 0


def test_empty_path_entry_is_the_working_directory(recipe: Make) -> None:
    assert run(recipe("true", env=["PATH="], workdir="/bin")) == 0


# -- steps that fail ---------------------------------------------------------------------------------


class Failing(Step):
    """Raises whatever it is given."""

    def __init__(self, problem: BaseException) -> None:
        super().__init__("test")
        self.problem = problem

    name = "broken step"

    def describe(self) -> str:
        return "fails"

    def execute(self, stage: Stage) -> None:
        raise self.problem


PLACES = [
    "propagation",
    "root",
    "mount",
    "devices",
    "links",
    "read-only",
    "mask",
    "pivot",
    "hostname",
]


@pytest.mark.parametrize("place", PLACES)
def test_failure_before_any_step_leaves_nothing(recipe: Make, tmp_path: Path, place: str) -> None:
    made = recipe("write", "/started", "yes")
    made.insert_before(
        place, Failing(OSError(errno.ENOSPC, "No space left on device", "/some/path"))
    )
    message = "^cannot start the container: broken step: /some/path: No space left on device$"
    with pytest.raises(LaunchFailed, match=message) as failed:
        launch.start(made)
    assert failed.value.exit_code == 125
    assert not (tmp_path / "rootfs" / "started").exists()


@pytest.mark.parametrize("moment", ["privileged_steps", "final_steps"])
def test_failure_around_the_identity_leaves_nothing(recipe: Make, moment: str) -> None:
    made = recipe("true")
    setattr(made, moment, [Failing(OSError(errno.EPERM, "no"))])
    with pytest.raises(LaunchFailed, match="broken step: no"):
        launch.start(made)


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), Interrupted(15)])
def test_signal_that_reaches_the_child_first_interrupts(
    recipe: Make, problem: BaseException
) -> None:
    made = recipe("true")
    made.insert_before("pivot", Failing(problem))
    with pytest.raises(type(problem)):
        launch.start(made)


@pytest.mark.parametrize("problem", [ValueError("odd"), SystemExit(0)])
def test_whatever_is_raised_in_the_child_stays_there(recipe: Make, problem: BaseException) -> None:
    me = os.getpid()
    made = recipe("true")
    made.insert_before("pivot", Failing(problem))
    with pytest.raises(LaunchFailed, match=f"broken step: {type(problem).__name__}"):
        launch.start(made)
    assert os.getpid() == me


def test_child_that_dies_silently_is_told(recipe: Make) -> None:
    class Dying(Failing):
        def execute(self, stage: Stage) -> None:
            os.kill(os.getpid(), signal.SIGKILL)
            os._exit(7)

    made = recipe("true")
    made.insert_before("pivot", Dying(ValueError()))
    with pytest.raises(LaunchFailed, match="its process died while it was prepared"):
        launch.start(made)


@pytest.mark.parametrize("callback", ["prepare", "created"])
def test_failure_of_the_parent_ends_the_child(recipe: Make, tmp_path: Path, callback: str) -> None:
    def refuse(*_: object) -> None:
        raise RootlessError("the disk is full")

    made = recipe("write", "/started", "yes")
    hooks: dict[str, Any] = {callback: refuse}
    with pytest.raises(RootlessError, match="the disk is full"):
        launch.start(made, **hooks)
    assert not (tmp_path / "rootfs" / "started").exists()


def test_map_that_is_refused_ends_the_child(recipe: Make) -> None:
    stranger = IdMap(((0, 0, 1),), ((0, 0, 1),), "not ours")
    with pytest.raises(HostUnable, match="cannot map ids"):
        launch.start(recipe("true", id_map=stranger))


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody-here", "user: no such user in the container: nobody-here"),
        ("root:nogroup-here", "no such group in the container: nogroup-here"),
        ("5", "uid 5 is not mapped into the container"),
        ("0:5", "gid 5 is not mapped into the container"),
        ("4294967295", "the user 4294967295 is larger than 4294967294"),
    ],
)
def test_user_that_cannot_be_is_named(recipe: Make, user: str, message: str) -> None:
    with pytest.raises(LaunchFailed, match=message) as failed:
        launch.start(recipe("true", user=user))
    assert "--explain shows the map" in failed.value.hint


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        ("/etc/passwd", "working directory: /etc/passwd: Not a directory"),
        ("/etc/passwd/x", "working directory: /etc/passwd/x: Not a directory"),
        ("/proc/self/fd/1", "working directory: /proc/self/fd/1: "),
        ("/proc/nosuch", "working directory: /proc/nosuch: "),
    ],
)
def test_working_directory_that_cannot_be_is_named(
    recipe: Make, directory: str, message: str
) -> None:
    with pytest.raises(LaunchFailed, match=message) as failed:
        launch.start(recipe("true", workdir=directory))
    assert failed.value.hint == "choose a directory of the container with -w"


def test_working_directory_is_made(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "rootfs" / "link").symlink_to("/srv")
    (tmp_path / "rootfs" / "srv").mkdir()
    assert run(recipe("write", "here", "yes", workdir="/link/../link/new/./one")) == 0
    assert (tmp_path / "rootfs" / "srv" / "new" / "one" / "here").exists()


def test_leaked_descriptor_is_no_way_out(recipe: Make, tmp_path: Path) -> None:
    """CVE-2024-21626, CVE-2024-45310: no directory of the host is entered, and none is made there."""
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    leaked = os.open(outside, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        for directory in ("", "/below", "/new", "/new/er", "/.."):
            with pytest.raises(LaunchFailed, match="is not a directory inside the container"):
                launch.start(recipe("true", workdir=f"/proc/self/fd/{leaked}{directory}"))
    finally:
        os.close(leaked)
    assert os.listdir(outside) == ["below"]


def test_limit_above_the_callers_own_is_named(recipe: Make) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = {"type": "RLIMIT_NOFILE", "soft": 5, "hard": hard + 1}
    message = f"limits: nofile=5:{hard + 1}: may not be raised above your own hard limit of {hard}"
    with pytest.raises(LaunchFailed, match=message):
        launch.start(recipe("true", rlimits=[limit]))


@pytest.mark.needs("subids")
def test_full_map_launches_too(recipe: Make) -> None:
    assert run(recipe("exit", "7", id_map=idmap.default())) == 7
    assert run(recipe("exit", "8", id_map=idmap.keep_id(), user="1000:50")) == 8
