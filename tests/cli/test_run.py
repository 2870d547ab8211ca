# SPDX-License-Identifier: Apache-2.0
"""`rootless run`: what every flag does, and what it says about what cannot be."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import run as command
from rootless.oci import document, platform
from tests.lib import trees, waiting
from tests.lib.command_line import CommandLine

pytestmark = pytest.mark.needs("userns")

SUBIDS = pytest.mark.needs("subids")
Rootfs = Callable[..., Path]
Result = subprocess.CompletedProcess[str]
Start = Callable[..., subprocess.Popen[str]]


def run(rootless: CommandLine, *words: str | os.PathLike[str], **settings: Any) -> str:
    """Standard output of a container that has to succeed and is removed."""
    return rootless.ok("run", "--rm", *words, **settings)


def left(rootless: CommandLine) -> list[str]:
    """What a run left in the store and the runtime directory."""
    paths = rootless.paths
    places = (paths.containers, paths.names, paths.running, paths.tmp)
    return [
        f"{place}/{name}" for place in places if os.path.isdir(place) for name in os.listdir(place)
    ]


def refuse(
    rootless: CommandLine, *words: str | os.PathLike[str], code: int = 125, **settings: Any
) -> str:
    """What a run says that has to fail in one sentence, with nothing left behind."""
    done: Result = rootless("run", *words, **settings)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    first, *hint = done.stderr.splitlines()
    assert first.startswith("rootless: ")
    assert not first.endswith(".")
    assert len(hint) <= 1
    assert all(line.startswith("hint: ") for line in hint)
    assert left(rootless) == []
    return done.stderr


# -- images and commands -----------------------------------------------------------------------------


def test_image_runs_its_command_and_mine(rootless: CommandLine, image: str) -> None:
    assert run(rootless, image, "echo", "hello", "world") == "hello world\n"
    assert rootless("run", "--rm", image, "exit", "42").returncode == 42
    assert left(rootless) == []


def test_streams_are_passed_through(rootless: CommandLine, image: str) -> None:
    assert run(rootless, "--interactive", image, "cat", input="through\n") == "through\n"
    assert run(rootless, image, "cat", input="not given\n") == ""
    done = rootless("run", "--rm", image, "cat", "/nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file" in done.stderr


def test_large_streams_arrive_whole(rootless: CommandLine, image: str) -> None:
    text = "0123456789abcdef" * 100_000
    assert run(rootless, "-i", image, "cat", input=text) == text


def test_closed_output_ends_the_command_by_sigpipe(rootless: CommandLine, image: str) -> None:
    with rootless.start("run", "--rm", "-i", image, "cat", "/dev/zero") as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait() in (1, 128 + signal.SIGPIPE)  # as it takes the failed write


def test_argument_of_any_bytes_arrives_and_is_remembered(rootless: CommandLine, image: str) -> None:
    word = os.fsdecode(b"\xff\xfe'\"\n")
    assert rootless.ok("run", "--name", "bytes", image, "echo", word) == word + "\n"
    assert rootless("ps", "-a").returncode == 0
    assert rootless("inspect", "bytes").returncode == 0
    rootless.ok("rm", "bytes")


def test_words_after_the_image_are_the_commands(rootless: CommandLine, image: str) -> None:
    assert run(rootless, image, "echo", "--rm", "-x", "--nosuch") == "--rm -x --nosuch\n"


def test_layers_of_the_image_are_not_written_to(rootless: CommandLine, image: str) -> None:
    assert run(rootless, image, "write", "/bin/new", "x") == ""
    assert "new" not in run(rootless, image, "ls", "/bin").split()


def test_host_image_runs_the_machines_own_programs(rootless: CommandLine) -> None:
    expected = Path("/etc/os-release").read_text()
    assert run(rootless, "host", "cat", "/etc/os-release") == expected


def test_unknown_image_is_refused(rootless: CommandLine) -> None:
    said = refuse(rootless, "--pull=never", "nosuch", "true")
    assert "no such image: nosuch" in said
    assert "hint: rootless pull nosuch" in said


@pytest.mark.parametrize("name", ["UPPER", "a b", "a:b:c", "-x-", "a@sha256:12", ""])
def test_bad_reference_is_refused(rootless: CommandLine, name: str) -> None:
    refuse(rootless, "--pull=never", "--", name, "true")


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("nosuch", 127, "cannot run `nosuch`: executable file not found in $PATH"),
        ("/bin/nosuch", 127, "cannot run `/bin/nosuch`: no such file in the container"),
        ("/etc/passwd", 126, "cannot run `/etc/passwd`: permission denied"),
        ("/etc", 126, "cannot run `/etc`: is a directory"),
    ],
)
def test_command_that_cannot_run_is_refused(
    rootless: CommandLine, image: str, word: str, code: int, message: str
) -> None:
    assert message in refuse(rootless, image, word, code=code)


# -- command-line grammar ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nosuch", "i"], "unknown flag: --nosuch"),
        (["--privileged", "i"], "unknown flag: --privileged"),
        (["-z", "i"], "unknown shorthand flag: 'z' in -z"),
        (["--name"], "flag needs an argument: --name"),
        ([], "`rootless run` needs an image"),
        (["--format=json", "i"], "--format needs --explain"),
        (["--network=bridge", "i"], 'invalid argument "bridge" for --network'),
        (["--pull=often", "i"], 'invalid argument "often" for --pull'),
        (["--rm=maybe", "i"], 'invalid argument "maybe" for --rm'),
        (["--memory=lots", "i"], 'invalid argument "lots" for --memory'),
        (["--cpus=none", "i"], 'invalid argument "none" for --cpus'),
        (["--pids-limit=x", "i"], 'invalid argument "x" for --pids-limit'),
        (["--shm-size=x", "i"], 'invalid argument "x" for --shm-size'),
        (["--userns=weird", "i"], "--userns: not a user namespace mode: weird"),
        (["--security-opt=label=x", "i"], "--security-opt label=x is not supported"),
        (["-v/tmp:/b", "-v/tmp:/b/", "i"], "duplicate mount point: /b"),
        (["-w", "relative", "i"], "is not an absolute path"),
        (["--cap-add=NOSUCH", "i"], "no such capability: NOSUCH"),
        (["--cap-drop=NOSUCH", "i"], "no such capability: NOSUCH"),
        (["--storage-driver=zfs", "i"], "no such storage driver: zfs"),
    ],
)
def test_flag_that_is_not_understood_is_refused(
    rootless: CommandLine, image: str, words: list[str], message: str
) -> None:
    words = [image if word == "i" else word for word in words] + ["true"] * ("i" in words)
    assert message in refuse(rootless, *words)


def test_every_flag_has_a_test() -> None:
    text = Path(__file__).read_text()
    for option in command.OPTIONS:
        assert any(name in text for name in option.names if name.startswith("--")), option.names


# -- flags -------------------------------------------------------------------------------------------


def test_name_is_taken_until_the_container_is_removed(rootless: CommandLine, image: str) -> None:
    rootless.ok("run", "--name", "web", image, "true")
    done = rootless("run", "--name", "web", image, "true")
    assert done.returncode == 125
    assert "the container name web is already in use" in done.stderr
    assert "hint: rootless rm web" in done.stderr
    assert rootless.ok("ps", "-aq", "--format", "{{.Names}}").split() == ["web"]
    rootless.ok("rm", "web")
    run(rootless, "--name", "web", image, "true")
    assert left(rootless) == []
    assert "invalid container name: a/b" in refuse(rootless, "--name", "a/b", image, "true")


def test_without_rm_the_container_is_kept_with_its_exit_code(
    rootless: CommandLine, image: str
) -> None:
    assert rootless("run", "--rm=false", "--name", "kept", image, "exit", "3").returncode == 3
    assert rootless.ok("ps", "-a", "--format", "{{.Names}} {{.ExitCode}}") == "kept 3\n"


def test_environment_of_image_flags_and_files(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\nHERE\n")
    out = run(
        rootless, "--env-file", file, "-e", "A=flag", "--env", "ABSENT", image, "env",
        environ={"HERE": "caller"},
    )  # fmt: skip
    assert {"A=flag", "B=file", "HERE=caller"} <= set(out.splitlines())
    assert "ABSENT" not in out
    assert "cannot read --env-file" in refuse(rootless, "--env-file", "nosuch", image, "env")


def test_workdir_is_made_and_kept_inside(rootless: CommandLine, image: str) -> None:
    assert run(rootless, "-w", "/new/dir", image, "pwd") == "/new/dir\n"
    for directory in ("/proc/self/fd/7", "/proc/1/cwd", "/proc/self/root"):
        said = refuse(rootless, "--workdir", directory, image, "pwd")
        assert f"working directory: {directory}" in said
        assert "hint: choose a directory of the container with -w" in said


@SUBIDS
def test_user_by_name_number_and_group(rootless: CommandLine, image: str) -> None:
    assert run(rootless, "-u", "user", image, "id") == "1000:1000\n"
    assert run(rootless, "--user", "7:staff", image, "id") == "7:50\n"
    assert "no such user in the container: nosuch" in refuse(rootless, "-unosuch", image, "id")
    assert "no such group in the container: x" in refuse(rootless, "-u0:x", image, "id")
    assert "uid 70000 is not mapped" in refuse(rootless, "-u70000", image, "id")


def test_entrypoint_replaces_and_empty_clears(rootless: CommandLine, image: str) -> None:
    assert run(rootless, "--entrypoint", "echo", image, "x") == "x\n"
    assert run(rootless, "--entrypoint", "", image, "echo", "y") == "y\n"
    assert "no command specified" in refuse(rootless, "--entrypoint=", image)


def test_volume_is_written_and_read_only_is_not(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    data = tmp_path / "data with, odd"
    data.mkdir()
    run(rootless, "-v", f"{data}:/data", image, "write", "/data/new", "text")
    assert (data / "new").read_text() == "text"
    done = rootless("run", "--rm", "--volume", f"{data}:/data:ro", image, "write", "/data/x", "")
    assert "Read-only file system" in done.stderr
    assert os.listdir(data) == ["new"]


def test_volume_makes_its_source_and_its_target(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    run(rootless, "-v", "./made/here:/deep/er/still", image, "write", "/deep/er/still/f", "x",
        cwd=tmp_path)  # fmt: skip
    assert (tmp_path / "made" / "here" / "f").read_text() == "x"


def test_volume_of_a_file_on_a_file_and_on_nothing(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    file = tmp_path / "motd"
    file.write_text("welcome")
    for target in ("/etc/motd", "/etc/passwd", "/new/file"):
        assert run(rootless, "-v", f"{file}:{target}", image, "cat", target) == "welcome"


def test_volume_of_a_file_on_a_directory_is_refused(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refuse(rootless, "-v", f"{tmp_path}/file:/tmp", image, "true")
    assert "cannot start the container: bind" in said


def test_volume_below_a_volume(rootless: CommandLine, image: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").write_text("inner")
    out = run(
        rootless, "-v", f"{tmp_path}/a:/v", "-v", f"{tmp_path}/c:/v/b", image, "cat", "/v/b/file"
    )
    assert out == "inner"


def test_volume_keeps_what_its_file_system_forbids(rootless: CommandLine, image: str) -> None:
    """Flags that the host set are locked: a user namespace may add, never take away."""
    names = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    place = max(("/dev/shm", "/dev/pts", "/sys", "/run"), key=lambda p: os.statvfs(p).f_flag & 14)
    locked = {name for name, bit in names.items() if os.statvfs(place).f_flag & bit}
    seen = rootless.json("run", "--rm", "-v", f"{place}:/p:rw", image, "mounts")
    options = next(m["options"] for m in seen["mounts"] if m["target"] == "/p").split(",")
    assert locked <= set(options)


def test_mount_binds_and_makes_tmpfs(rootless: CommandLine, image: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    bind = f"type=bind,source={tmp_path},target=/m,readonly"
    assert run(rootless, "--mount", bind, image, "cat", "/m/f") == "x"
    seen = rootless.json("run", "--rm", "--mount", bind, "--mount",
                         "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", image, "mounts")  # fmt: skip
    found = {m["target"]: m for m in seen["mounts"]}
    assert "ro" in found["/m"]["options"].split(",")
    assert found["/t"]["type"] == "tmpfs"
    assert {"size=1024k", "mode=700"} <= set(found["/t"]["super_options"].split(","))
    said = refuse(rootless, "--mount", "type=bind,src=/nosuch,dst=/m", image, "true")
    assert "bind source path does not exist: /nosuch" in said
    assert "hint: mkdir -p /nosuch" in said


def test_tmpfs_is_empty_and_bounded(rootless: CommandLine, image: str) -> None:
    assert run(rootless, "--tmpfs", "/bin2", image, "ls", "/bin2") == ""
    out = run(rootless, "--tmpfs", "/fresh:size=1m,mode=750", image, "stat", "/fresh")
    assert document.loads(out)["mode"] == 0o750


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/../proc/sys"])
def test_mount_over_proc_is_refused(rootless: CommandLine, image: str, target: str) -> None:
    assert "inside /proc" in refuse(rootless, "-v", f"/tmp:{target}", image, "true")
    assert "inside /proc" in refuse(rootless, "--tmpfs", target, image, "true")


def test_read_only_root_refuses_writes_but_not_on_mounts(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    done = rootless("run", "--rm", "--read-only", image, "write", "/new", "x")
    assert "Read-only file system" in done.stderr
    words = ["write", "/tmp/x", "y", ",", "write", "/v/x", "y", ",", "write", "/dev/shm/x", "y"]
    run(rootless, "--read-only", "--tmpfs", "/tmp", "-v", f"{tmp_path}:/v", image, "each", *words)


def test_names_of_the_host_and_its_neighbours(rootless: CommandLine, image: str) -> None:
    words = ["each", *["hostname", ",", "cat", "/etc/hosts", "/etc/hostname"]]
    out = run(
        rootless, "--hostname", "box", "--domainname", "lan", "--add-host", "db=::5", image, *words
    )
    assert out.splitlines()[0] == "box"
    assert "127.0.0.1\tbox.lan box\n::5\tdb\nbox\n" in out


def test_network_none_has_loopback_and_host_has_the_callers(
    rootless: CommandLine, image: str
) -> None:
    own = os.readlink("/proc/self/ns/net")
    assert run(rootless, "--network=host", image, "readlink", "/proc/self/ns/net").strip() == own
    assert run(rootless, "--net", "none", image, "readlink", "/proc/self/ns/net").strip() != own


def test_init_reaps_and_forwards(rootless: CommandLine, image: str) -> None:
    if not (Path(command.__file__).parents[1] / "bin" / "init").exists():
        assert "was not built" in refuse(rootless, "--init", image, "true")
        return
    assert run(rootless, "--init", image, "orphans", "5") == "0\n"
    assert rootless("run", "--rm", "--init", image, "exit", "9").returncode == 9


def test_shm_size(rootless: CommandLine, image: str) -> None:
    seen = rootless.json("run", "--rm", "--shm-size=2m", image, "mounts")
    shm = next(m for m in seen["mounts"] if m["target"] == "/dev/shm")
    assert "size=2048k" in shm["super_options"]


def test_cidfile_has_the_id_and_must_not_exist(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    file = tmp_path / "cid"
    rootless.ok("run", "--cidfile", file, "--name", "kept", image, "true")
    assert rootless.ok("ps", "-aq", "--no-trunc").strip() == file.read_text()
    done = rootless("run", "--cidfile", file, image, "true")
    assert (done.returncode, "container id file exists" in done.stderr) == (125, True)
    rootless.ok("rm", "kept")
    refuse(rootless, "--cidfile", tmp_path / "no" / "dir", image, "true")
    refuse(rootless, "--cidfile", tmp_path / "new", image, "nosuch", code=127)
    assert not (tmp_path / "new").exists()


def test_labels_and_annotations_are_recorded(rootless: CommandLine, image: str) -> None:
    rootless.ok(
        "run", "--name", "box", "-l", "a=b", "--label", "c", "--annotation", "x=y", image, "true"
    )
    record = document.load(rootless.paths.container_record(os.readlink(rootless.paths.name("box"))))
    assert (record["labels"], record["annotations"]) == ({"a": "b", "c": ""}, {"x": "y"})


def test_rootfs_is_written_and_with_o_it_is_not(rootless: CommandLine, rootfs: Rootfs) -> None:
    root = rootfs()
    run(rootless, "--rootfs", root, "write", "/kept", "x")
    assert (root / "kept").read_text() == "x"
    run(rootless, "--rootfs", f"{root}:O", "write", "/gone", "x")
    assert not (root / "gone").exists()
    assert "no such directory: nosuch" in refuse(rootless, "--rootfs", "nosuch", "true")
    assert "no such option: X" in refuse(rootless, "--rootfs", f"{root}:X", "true")


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("overlay", marks=pytest.mark.needs("overlay")),
        pytest.param("fuse-overlayfs", marks=pytest.mark.needs("fuse")),
        "copy",
        "vfs",
    ],
)
def test_storage_driver_shows_the_image_and_keeps_it(
    rootless: CommandLine, image: str, driver: str
) -> None:
    words = ["rm", "/etc/passwd", ",", "write", "/etc/new", "x", ",", "ls", "/etc"]
    out = run(rootless, "--storage-driver", driver, image, "each", *words)
    assert {"group", "new"} <= set(out.split())
    assert "passwd" not in out
    assert "passwd" in run(rootless, image, "ls", "/etc")
    assert left(rootless) == []


def test_limits_on_resources_work_or_say_what_is_missing(rootless: CommandLine, image: str) -> None:
    flags = ("--memory=64m", "--cpus=0.5", "--pids-limit=20")
    done = rootless("run", "--rm", *flags, image, "true")
    if done.returncode:
        said = refuse(rootless, *flags, image, "true")
        assert "cannot limit cpu, memory, pids" in said
        assert "\nhint: " in said


def test_ulimit_and_capabilities_and_privileges(rootless: CommandLine, image: str) -> None:
    seen = rootless.json(
        "run", "--rm", "--ulimit", "nofile=12", "--cap-drop=ALL", "--cap-add", "CHOWN",
        "--security-opt=no-new-privileges", "--userns=host", image, "probe",
    )  # fmt: skip
    assert seen["limits"]["nofile"] == [12, 12]
    assert seen["capabilities"]["bounding"] == 1
    assert seen["no_new_privs"] == 1
    assert seen["uid"][0] == os.getuid()


def test_platform_that_the_image_is_not_is_refused(rootless: CommandLine, image: str) -> None:
    said = refuse(rootless, "--platform=linux/s390x", "--pull=never", "--quiet", image, "true")
    assert "no such image" in said
    assert (
        run(
            rootless,
            f"--platform=linux/{platform.host().architecture}",
            "--pull=missing",
            image,
            "echo",
            "x",
        )
        == "x\n"
    )


# -- explain -----------------------------------------------------------------------------------------


def test_explain_tells_the_plan_and_does_nothing(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    run(rootless, image, "true")  # whatever a first run sets up is there
    before = trees.digest(Path(rootless.paths.data)), trees.digest(Path(rootless.paths.run))
    cid = tmp_path / "cid"
    out = rootless.ok(
        "run", "--explain", "--name=x", f"--cidfile={cid}", "--read-only", image, "echo", "a b"
    )
    for part in ("uid map", "overlay", "/dev/shm tmpfs", "/etc/hosts <- ", "capabilities chown",
                 "network       none", "command       echo 'a b'", "read-only root"):  # fmt: skip
        assert part in out
    after = trees.digest(Path(rootless.paths.data)), trees.digest(Path(rootless.paths.run))
    assert (after, cid.exists()) == (before, False)


def test_explain_as_json_is_what_is_run(rootless: CommandLine, image: str) -> None:
    plan = rootless.json(
        "run", "--explain", "--format=json", "-u", "7", "-w", "/srv", "-eA=b", image, "true"
    )
    assert plan["command"]["args"] == ["true"]
    assert plan["command"]["cwd"] == "/srv"
    assert "A=b" in plan["command"]["env"]
    assert plan["credentials"]["user"] == "7"
    assert plan["union"]["driver"] in ("overlay", "fuse-overlayfs", "copy")
    assert plan["union"]["reason"]
    assert plan["idMap"]["uids"][0]["inside"] == 0
    assert [step["step"] for step in plan["steps"]][:2] == ["propagation", "root"]
    assert plan["config"]["process"]["args"] == ["true"]


# -- signals -----------------------------------------------------------------------------------------


@pytest.fixture
def start(rootless: CommandLine) -> Iterator[Start]:
    """A function that starts a container; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str | os.PathLike[str]) -> subprocess.Popen[str]:
        started.append(rootless.start("run", *words))
        return started[-1]

    yield begin
    for running in started:
        running.kill()
        with running:
            pass


def expect(running: subprocess.Popen[str], line: str) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == line + "\n"


def finish(running: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = running.communicate(timeout=waiting.TIME_LIMIT)
    return running.returncode, out


def test_signals_reach_a_handler(rootless: CommandLine, image: str, start: Start) -> None:
    running = start("--rm", image, "signal", "4")
    expect(running, "ready")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
        running.send_signal(number)
        expect(running, str(int(number)))
    assert finish(running) == (0, "")
    assert left(rootless) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_third_time_of_asking_kills(
    rootless: CommandLine, image: str, start: Start, number: int
) -> None:
    running = start("--rm", image, "signal", "100")
    expect(running, "ready")
    for _ in range(2):
        running.send_signal(number)
        expect(running, str(int(number)))
    running.send_signal(number)
    assert finish(running) == (128 + signal.SIGKILL, "")
    assert left(rootless) == []


def container_pid(rootless: CommandLine) -> int:
    """The pid of process 1 of the only container."""
    (container_id,) = os.listdir(rootless.paths.running)
    state = document.load(rootless.paths.state_directory(container_id) + "/state.json")
    return int(state["pid"])


@pytest.mark.parametrize("flags", [["--rm"], ["--rm", "-u", "0:0"], ["--userns=host"], []])
def test_killing_us_kills_the_container(
    rootless: CommandLine, image: str, start: Start, flags: list[str]
) -> None:
    running = start("--name=victim", *flags, image, "signal", "100")
    expect(running, "ready")
    container = os.pidfd_open(container_pid(rootless))
    running.kill()
    assert waiting.ended(container, 1.0)
    running.communicate()
    assert rootless.ok("ps", "-q") == ""
    assert run(rootless, image, "echo", "next") == "next\n"
    assert os.path.isdir(rootless.paths.name("victim")) is False
    if "--rm" in flags:
        assert left(rootless) == []


@pytest.mark.needs("fuse")
def test_killing_us_ends_the_server_of_the_file_system(image: str, start: Start) -> None:
    running = start("--rm", "--storage-driver=fuse-overlayfs", image, "signal", "100")
    expect(running, "ready")
    servers = [
        os.pidfd_open(pid) for pid in descendants(running.pid) if name_of(pid) == "fuse-overlayfs"
    ]
    assert servers
    running.kill()
    running.communicate()
    assert all(waiting.ended(server, 5.0) for server in servers)


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def descendants(parent: int) -> list[int]:
    """The pids of all processes below one."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid for child in map(int, children) for pid in (child, *descendants(child))]


def test_interrupt_while_it_is_prepared_leaves_nothing(
    rootless: CommandLine, image: str, start: Start
) -> None:
    for _ in range(5):
        running = start("--rm", image, "sleep", "1000")
        assert waiting.until(
            lambda running=running: (
                running.poll() is not None  # type: ignore[misc]
                or len(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()) > 0
            )
        )
        # Once is enough until the command runs; then it is the command's, and the third time kills.
        for _ in range(100):
            running.send_signal(signal.SIGINT)
            if waiting.until(lambda running=running: running.poll() is not None, 0.2):  # type: ignore[misc]
                break
        _, said = running.communicate()
        assert said == ""
        assert running.returncode in (-2, 130, 128 + signal.SIGKILL)
        assert left(rootless) == []


# -- a host that lacks something ---------------------------------------------------------------------


_ONE_ID = "mount --bind /dev/null /etc/subuid"
_AS_CALLER = 'exec unshare --user --map-user="$0" --map-group="$1" -- "${@:2}"'


class Lacking:
    """The command line in a user and mount namespace of its own, in which a shell script ran first."""

    def __init__(self, rootless: CommandLine) -> None:
        self.rootless = rootless

    def __call__(self, script: str, *words: str | os.PathLike[str], **environ: str) -> Result:
        from tests.lib.command_line import program

        # Without subordinate ids newuidmap could not map them into a second namespace anyway.
        command: list[str | os.PathLike[str]] = ["unshare", "-Urm", "bash", "-ec", f'{_ONE_ID}\n{script}\n{_AS_CALLER}',
                   str(os.getuid()), str(os.getgid()), *program(), *words]  # fmt: skip
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env={**self.rootless.environ, **environ}, timeout=waiting.TIME_LIMIT,
        )  # fmt: skip


@pytest.fixture
def lacking(rootless: CommandLine) -> Lacking:
    return Lacking(rootless)


FROM_TMPFS = 'mkdir -p "$ROOTLESS_ROOT" "$ROOTLESS_RUN"; mount -t tmpfs -o size={size},mode=700 t "$ROOTLESS_ROOT"'


def sentence(done: Result, code: int = 125) -> str:
    """The message of a failure that says it in a sentence."""
    assert done.returncode == code, done.stderr
    first, *hint = done.stderr.splitlines()
    assert first.startswith("rootless: ")
    assert all(line.startswith("hint: ") for line in hint)
    assert len(hint) <= 1
    return done.stderr


@pytest.mark.parametrize(
    ("script", "lack"),
    [
        ("", "no entry in /etc/subuid"),
        pytest.param(
            "umount /etc/subuid; mount --bind /dev/null /etc/subgid",
            "no entry in /etc/subgid",
            marks=pytest.mark.needs("subids"),
        ),
        ('mount --bind /dev/null "$(command -v newuidmap)"', "newuidmap is not installed"),
        ('mount --bind /dev/null "$(command -v newgidmap)"', "newgidmap is not installed"),
    ],
)
def test_without_subordinate_ids_one_id_is_mapped(
    lacking: Lacking, rootfs: Rootfs, script: str, lack: str
) -> None:
    words = ("run", "--rm", "--explain", "--format=json", "--rootfs", rootfs(), "true")
    done = lacking(script, *words)
    assert done.returncode == 0, done.stderr
    id_map = document.loads(done.stdout)["idMap"]
    assert lack in id_map["source"]
    assert [line["count"] for line in id_map["uids"]] == [1]


def test_single_id_runs_a_container_and_names_unmapped_users(
    lacking: Lacking, rootfs: Rootfs
) -> None:
    root = rootfs()
    assert lacking("", "run", "--rm", "--rootfs", root, "id").stdout == "0:0\n"
    said = sentence(lacking("", "run", "--rm", "-u", "1000", "--rootfs", root, "id"))
    assert "uid 1000 is not mapped into the container" in said
    assert left(lacking.rootless) == []


@pytest.mark.parametrize("forced", [False, True])
def test_without_overlay_and_fuse_layers_are_copied(
    lacking: Lacking, rootfs: Rootfs, forced: bool
) -> None:
    # ramfs: without the attributes overlayfs writes its marks into.
    script = 'mkdir -p "$ROOTLESS_ROOT" "$ROOTLESS_RUN"; mount -t ramfs r "$ROOTLESS_ROOT"; '
    script += "mount --bind /dev/null /dev/fuse"
    words: list[str | os.PathLike[str]] = ["--rootfs", f"{rootfs()}:O", "ls", "/bin"]
    for driver in ("overlay", "fuse-overlayfs") if forced else ():
        said = sentence(lacking(script, "run", "--rm", f"--storage-driver={driver}", *words))
        assert said.startswith(
            (f"rootless: cannot use {driver}: ", "rootless: cannot use overlayfs: ")
        )
    if not forced:
        done = lacking(script, "run", "--rm", *words)
        assert "testbox" in done.stdout, done.stderr
        plan = document.loads(lacking(script, "run", "--explain", "--format=json", *words).stdout)
        assert plan["union"]["driver"] == "copy"
        assert "overlayfs does not work" in plan["union"]["reason"]
        assert "fuse-overlayfs neither" in plan["union"]["reason"]


def test_full_disk_is_a_sentence_and_leaves_nothing(lacking: Lacking, rootfs: Rootfs) -> None:
    root = rootfs()
    (root / "big").write_bytes(b"x" * (2 << 20))
    done = lacking(FROM_TMPFS.format(size="1m"), "run", "--rm", "--storage-driver=copy", "--rootfs",
                   f"{root}:O", "true")  # fmt: skip
    assert "no space left on device" in sentence(done).lower()
    assert left(lacking.rootless) == []


def test_read_only_home_is_a_sentence(lacking: Lacking, rootfs: Rootfs, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = (
        f'mount --bind "{home}" "{home}"; mount -o remount,bind,ro "{home}"; unset ROOTLESS_ROOT'
    )
    done = lacking(script, "run", "--rm", "--rootfs", rootfs(), "true", HOME=str(home),
                   XDG_DATA_HOME="")  # fmt: skip
    assert "read-only file system" in sentence(done).lower()
    assert os.listdir(home) == []


def test_without_a_runtime_directory_one_below_tmp_is_made(
    lacking: Lacking, rootfs: Rootfs
) -> None:
    script = "mount -t tmpfs t /tmp; unset ROOTLESS_RUN XDG_RUNTIME_DIR"
    root = rootfs()
    if str(root).startswith("/tmp"):
        pytest.skip("the test's own files lie below /tmp")
    if os.path.isdir(f"/run/user/{os.getuid()}"):
        script += "; mount -t tmpfs t /run/user"
    done = lacking(script, "run", "--rm", "--rootfs", root, "echo", "hello")
    assert (done.stdout, done.stderr) == ("hello\n", "")


def test_without_a_home_the_way_out_is_told(rootless: CommandLine, rootfs: Rootfs) -> None:
    environ = {"HOME": "", "ROOTLESS_ROOT": "", "XDG_DATA_HOME": ""}
    said = sentence(rootless("run", "--rm", "--rootfs", rootfs(), "true", environ=environ))
    assert "HOME is not set" in said


def test_without_user_namespaces_the_restriction_is_told(lacking: Lacking, rootfs: Rootfs) -> None:
    limit = "echo 1 > /proc/sys/user/max_user_namespaces"
    done = lacking(limit, "run", "--rm", "--rootfs", rootfs(), "true")
    said = sentence(done)
    assert "cannot make" in said
    assert "hint: rootless doctor" in said


# -- terminals ---------------------------------------------------------------------------------------


class Session:
    """`rootless run` on a terminal of its own, and what a person would see and type there."""

    def __init__(self, rootless: CommandLine, *words: str | os.PathLike[str]) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, (33, 77))
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = rootless.start("run", "--rm", *words, preexec_fn=take_terminal, **streams)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, count: int = 1) -> None:
        """Wait until the terminal has shown `text` so often."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while self.seen.count(text.encode()) < count:
            assert poll.poll(waiting.TIME_LIMIT * 1000), f"{text!r} does not come: {self.seen!r}"
            self.seen += os.read(self.master, 1 << 16)

    def end(self) -> int:
        """Wait for the end, and check that the terminal is as it was."""
        try:
            code = self.process.wait(waiting.TIME_LIMIT)
            assert termios.tcgetattr(self.slave) == self.before
        finally:
            self.close()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self.master, self.slave):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def session(rootless: CommandLine) -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def begin(*words: str | os.PathLike[str]) -> Session:
        opened.append(Session(rootless, *words))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


Begin = Callable[..., Session]


def test_terminal_is_a_new_one_of_the_callers_size(image: str, session: Begin) -> None:
    """CVE-2017-5226: the caller's own terminal stays outside."""
    on = session("-it", image, "tty")
    on.expect("}}")
    told = document.loads(on.seen)["tty"]
    assert (told["fds"], told["controlling"], told["foreground_group"]) == ([0, 1, 2], 1, 1)
    assert (told["rows"], told["columns"]) == (33, 77)
    assert told["name"] in ("/dev/pts/0", "/dev/console")
    assert on.end() == 0


def test_terminal_follows_a_resize(image: str, session: Begin) -> None:
    on = session("-it", image, "signal", "1")
    on.expect("ready")
    termios.tcsetwinsize(on.slave, (44, 55))
    on.process.send_signal(signal.SIGWINCH)
    on.expect(f"{int(signal.SIGWINCH)}\r\n")
    assert on.end() == 0
    on = session("-it", image, "each", "cat", ",", "winsize")
    termios.tcsetwinsize(on.slave, (44, 55))
    on.process.send_signal(0)
    on.type("x\n")
    on.expect("x\r\n", 2)
    on.process.send_signal(signal.SIGWINCH)
    on.type("\x04")
    on.expect("44 55\r\n")
    assert on.end() == 0


def test_terminal_is_raw_while_it_runs_and_ends_with_its_code(image: str, session: Begin) -> None:
    on = session("--tty", "--interactive", image, "each", "cat", ",", "exit", "7")
    on.type("line\n")
    on.expect("line\r\n", 2)  # echoed by the container's terminal alone, then copied
    assert termios.tcgetattr(on.slave) != on.before
    on.type("\x04")
    assert on.end() == 7


def test_interrupt_character_reaches_the_foreground_program(image: str, session: Begin) -> None:
    on = session("-it", image, "signal", "1")
    on.expect("ready")
    on.type("\x03")
    on.expect("2\r\n")
    assert on.end() == 0


def test_terminal_without_input_only_shows(image: str, session: Begin) -> None:
    on = session("-t", image, "tty")
    on.expect("}}")
    assert document.loads(on.seen)["tty"]["fds"] == [0, 1, 2]
    assert on.end() == 0


def test_without_a_terminal_of_its_own_the_command_gets_pipes(image: str, session: Begin) -> None:
    on = session(image, "tty")
    on.expect("}}")
    told = document.loads(on.seen)["tty"]
    assert (told["fds"], told["controlling"]) == ([], 0)
    assert on.end() == 0


def test_input_of_a_terminal_goes_through_a_pipe(image: str, session: Begin) -> None:
    on = session("-i", image, "cat")
    on.type("hello\n")
    on.expect("hello\r\n", 2)
    on.type("\x04")
    assert on.end() == 0


def test_command_that_cannot_run_leaves_the_terminal_as_it_was(image: str, session: Begin) -> None:
    on = session("-it", image, "nosuch")
    on.expect("executable file not found")
    assert on.end() == 127


def test_large_output_arrives_whole_on_a_terminal(
    image: str, session: Begin, tmp_path: Path
) -> None:
    (tmp_path / "big").write_text("0123456789abcde\n" * 20_000)
    on = session("-t", "-v", f"{tmp_path}:/v", image, "each", "cat", "/v/big", ",", "echo", "END")
    on.expect("END")
    assert on.seen.count(b"0123456789abcde\r") == 20_000
    assert on.end() == 0


@pytest.mark.needs("busybox")
def test_shell_has_job_control(rootless: CommandLine, rootfs: Rootfs, session: Begin) -> None:
    from tests.lib.abilities import find_program

    root = rootfs()
    shutil.copy(find_program("busybox") or "", root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    on = session("-it", "--rootfs", root, "sh")
    on.type("PS1='$''> '\n")
    on.expect("$> ")
    on.type("busybox sleep 1000\n")
    assert waiting.until(lambda: runs(on, "sleep 1000"))
    on.type("\x1a")
    on.expect("Stopped")
    on.type("bg; jobs; echo left=$?\n")
    on.expect("left=0")
    assert b"job control turned off" not in on.seen
    on.type("kill %1; wait; echo again=$?\n")
    on.expect("again=0")
    on.type("busybox sleep 2000\n")
    assert waiting.until(lambda: runs(on, "sleep 2000"))
    on.type("\x03")
    on.type("exit 5\n")
    assert on.end() == 5


def runs(on: Session, words: str) -> bool:
    """Whether a descendant executes these words: by then the shell has given it the terminal."""
    pids = descendants(on.process.pid)
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in pids]
    return any(words.encode() in line for line in lines)


def test_interactive_terminal_without_one_is_refused(rootless: CommandLine, image: str) -> None:
    said = refuse(rootless, "-it", image, "true")
    assert "the input device is not a TTY" in said


def test_terminal_for_a_caller_without_one_still_works(rootless: CommandLine, image: str) -> None:
    assert '"fds":[0,1,2]' in run(rootless, "-t", image, "tty")
