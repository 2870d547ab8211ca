# SPDX-License-Identifier: Apache-2.0
"""Root file systems that want our mounts and files elsewhere: past failures of runtimes, by their CVE.

Each test has a sentinel on the host that a hostile image points at; whatever happens, it stays as it
was, and the container either does not start or sees its own file system only.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rootless as package
from tests.lib import trees
from tests.lib.command_line import CommandLine

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

Result = subprocess.CompletedProcess[str]


class Victim:
    """A root file system, the sentinel beside it, and the container made of it."""

    def __init__(self, rootless: CommandLine, root: Path, sentinel: Path) -> None:
        self.rootless = rootless
        self.root = root
        self.sentinel = sentinel

    def replace(self, name: str, target: str | os.PathLike[str]) -> None:
        """Put a symbolic link where the image has something else, or nothing."""
        path = self.root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
        path.symlink_to(target)

    def run(self, *words: str | os.PathLike[str], flags: tuple[str, ...] = ()) -> Result:
        return self.rootless("run", "--rm", *flags, "--rootfs", self.root, *words)

    def refused(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        """What is said when the container does not start."""
        done = self.run(*words, flags=flags)
        assert done.returncode == 125, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert done.stderr.startswith("rootless: ")
        return done.stderr

    def seen(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        done = self.run(*words, flags=flags)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def victim(rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path) -> Iterator[Victim]:
    sentinel = tmp_path / "sentinel"
    (sentinel / "pts").mkdir(parents=True)
    for name in ("file", "ptmx", "hosts", "null", "console"):
        (sentinel / name).write_text(f"precious {name}")
    before = trees.digest(sentinel)
    yield Victim(rootless, rootfs(), sentinel)
    assert trees.digest(sentinel) == before


# -- mount points that are links ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("inside", [True, False])
def test_cve_2019_19921_proc_that_is_a_link_is_refused(
    victim: Victim, name: str, inside: bool
) -> None:
    """Also CVE-2019-16884, 2023-27561, 2023-28642: masks must lie on what they mask."""
    (victim.root / "elsewhere").mkdir()
    victim.replace(name, "/elsewhere" if inside else victim.sentinel)
    said = victim.refused("true")
    assert "must be mounted on an ordinary directory" in said
    assert f"/{name}" in said
    assert os.listdir(victim.root / "elsewhere") == []


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/1/../self", "/sys/../proc"])
def test_cve_2019_16884_volume_over_proc_is_refused(victim: Victim, target: str) -> None:
    volume = f"{victim.sentinel}:{target}"
    assert "inside /proc" in victim.refused("true", flags=("-v", volume))


@pytest.mark.parametrize("where", ["/proc", "/proc/self/attr", "proc/sys"])
def test_cve_2023_27561_link_into_proc_as_a_mount_target_is_refused(
    victim: Victim, where: str
) -> None:
    """The string says /innocent, the link says /proc: what counts is where it ends."""
    victim.replace("innocent", where)
    said = victim.refused("true", flags=("-v", f"{victim.sentinel}:/innocent"))
    assert "inside /proc" in said


@pytest.mark.parametrize("target", ["sentinel", "/", "/proc/self/fd", ".."])
def test_cve_2026_41579_dev_that_is_a_link_stays_inside(victim: Victim, target: str) -> None:
    victim.replace("dev", victim.sentinel if target == "sentinel" else target)
    done = victim.run("each", "stat", "/dev/null", ",", "ls", "/dev/")
    if done.returncode == 0:
        assert json.loads(done.stdout.splitlines()[0])["rdev"] == [1, 3]
    else:
        assert done.stderr.startswith("rootless: ")
    assert not (victim.sentinel / "fd").is_symlink()


@pytest.mark.parametrize("name", ["dev/pts", "dev/shm", "dev/mqueue", "sys/fs"])
def test_cve_2026_87766_parents_that_are_links_stay_inside(victim: Victim, name: str) -> None:
    victim.replace(name, victim.sentinel)
    assert victim.seen("stat", "/dev/ptmx")


def test_cve_2026_87766_target_below_a_link_is_made_inside(victim: Victim) -> None:
    victim.replace("a", victim.sentinel)
    flags = ("-v", f"{victim.sentinel}:/a/b/c:ro", "--tmpfs", "/a/d")
    assert "/a: is a symbolic link that leads nowhere" in victim.refused("true", flags=flags)
    inside = victim.root / str(victim.sentinel).lstrip("/")
    inside.mkdir(parents=True)
    victim.seen("true", flags=flags)
    assert (inside / "b" / "c").is_dir()
    assert (inside / "d").is_dir()


def test_cve_2026_87766_absolute_links_of_ordinary_images_work(victim: Victim) -> None:
    """/var/run -> /run is in every distribution; hardening must not break it (moby #52653)."""
    (victim.root / "run").mkdir(exist_ok=True)
    (victim.root / "var" / "run").symlink_to("/run")
    (victim.root / "run").chmod(0o711)
    out = victim.seen("cat", "/run/here/file", flags=("-v", f"{victim.sentinel}:/var/run/here:ro"))
    assert out == "precious file"


@pytest.mark.parametrize("name", ["etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"])
def test_names_files_that_are_links_leave_the_host_alone(victim: Victim, name: str) -> None:
    victim.replace(name, victim.sentinel if name == "etc" else victim.sentinel / "hosts")
    done = victim.run("true", flags=("--network=host",))
    assert done.returncode in (0, 125)


@pytest.mark.parametrize(
    "target", ["/proc/self/fd/1", "/proc/self/exe", "/proc/1/root/etc/passwd", "/proc/self/environ"]
)
def test_names_files_that_are_links_into_proc_are_refused(victim: Victim, target: str) -> None:
    victim.replace("etc/hosts", target)
    done = victim.run("true")
    assert done.returncode == 125
    assert done.stderr.startswith("rootless: cannot start the container: bind")


# -- devices and terminals ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "file"])
def test_cve_2025_31133_null_device_of_the_image_is_not_used(victim: Victim, kind: str) -> None:
    (victim.root / "dev").mkdir(exist_ok=True)
    if kind == "link":
        victim.replace("dev/null", victim.sentinel / "null")
    else:
        (victim.root / "dev" / "null").write_text("mine")
    told = victim.seen("each", *["stat", "/dev/null", "/proc/keys", ",", "cat", "/proc/keys"])
    assert [json.loads(line)["rdev"] for line in told.splitlines()] == [[1, 3], [1, 3]]
    assert "Read-only" in victim.run("write", "/proc/sys/kernel/hostname", "h").stderr


def test_cve_2025_31133_volume_over_dev_does_not_unmask(victim: Victim) -> None:
    fake = victim.sentinel.parent / "fake"
    fake.mkdir()
    (fake / "null").symlink_to(victim.sentinel / "null")
    done = victim.run("cat", "/proc/keys", flags=("-v", f"{fake}:/dev"))
    assert done.stdout == ""
    assert done.returncode in (0, 125)


@pytest.mark.parametrize("target", ["sentinel", "/proc/sys/kernel/core_pattern", "/proc/self/fd/0"])
def test_cve_2025_52565_console_is_the_new_terminal(victim: Victim, target: str) -> None:
    (victim.root / "dev").mkdir(exist_ok=True)
    victim.replace("dev/console", victim.sentinel / "console" if target == "sentinel" else target)
    told = json.loads(victim.seen("stat", "/dev/console", flags=("-t",)).replace("\r", ""))
    assert (told["type"], told["rdev"][0]) == ("character", 136)


@pytest.mark.parametrize("name", ["dev/ptmx", "dev/pts/0", "dev/pts/ptmx"])
def test_cve_2025_52565_terminals_of_the_image_are_not_used(victim: Victim, name: str) -> None:
    (victim.root / name).parent.mkdir(parents=True, exist_ok=True)
    victim.replace(name, victim.sentinel / "ptmx")
    assert '"fds":[0,1,2]' in victim.seen("tty", flags=("-t",))


def test_cve_2017_5226_nothing_can_be_typed_into_the_callers_terminal(victim: Victim) -> None:
    """TIOCSTI needs the terminal as its controlling one: without -t there is none."""
    out = victim.seen("tty")
    assert '"controlling":0' in out
    number = {"x86_64": 16, "aarch64": 29, "riscv64": 29}.get(os.uname().machine)
    if number is not None:
        # ioctl(0, TIOCSTI, "…") on standard input, a pipe or /dev/null: refused.
        assert int(victim.seen("syscall", str(number), "0", "0x5412", "0")) < 0


# -- the working directory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "directory",
    [*(f"/proc/self/fd/{number}" for number in (0, 3, 4, 5, 7, 8, 9, 12)), "/proc/1/cwd",
     "/proc/self/root", "/proc/self/fd/7/../../..", "/proc/thread-self/cwd"],
)  # fmt: skip
def test_cve_2024_21626_working_directory_through_proc_is_refused(
    victim: Victim, directory: str
) -> None:
    said = victim.refused("pwd", flags=("-w", directory))
    assert "working directory" in said


def test_cve_2024_21626_link_to_a_descriptor_is_no_working_directory(victim: Victim) -> None:
    victim.replace("work", "/proc/self/fd/7")
    assert "working directory" in victim.refused("pwd", flags=("-w", "/work"))
    victim.replace("work", victim.sentinel)
    assert "working directory" in victim.refused("pwd", flags=("-w", "/work"))
    (victim.root / str(victim.sentinel).lstrip("/")).mkdir(parents=True)
    assert victim.seen("pwd", flags=("-w", "/work")).strip() == str(victim.sentinel)
    assert victim.seen("ls", flags=("-w", "/work")) == ""  # the one inside


# -- our own program ---------------------------------------------------------------------------------


def our_files() -> str:
    """One value for the interpreter and for the package."""
    hashing = hashlib.sha256(Path(os.path.realpath(sys.executable)).read_bytes())
    for path in sorted(Path(package.__file__).parent.rglob("*.py")):
        hashing.update(path.read_bytes())
    return hashing.hexdigest()


def test_cve_2019_5736_our_program_cannot_be_executed_or_overwritten(victim: Victim) -> None:
    before = our_files()
    (victim.root / "bin" / "again").write_text("#!/proc/self/exe\n")
    (victim.root / "bin" / "again").chmod(0o755)
    victim.replace("bin/link", "/proc/self/exe")
    for command in ("/proc/self/exe", "/bin/again", "/bin/link", "/proc/1/exe"):
        done = victim.run(command, "-c", "print('python')")
        assert "python" not in done.stdout
        assert done.returncode in (126, 127), (command, done.stderr)
    assert our_files() == before


def test_cve_2016_9962_process_that_prepares_is_out_of_reach(victim: Victim) -> None:
    """CVE-2026-41163: process 1 of the next container, seen from a pid namespace above it, would be
    ours until its exec; here only what the container itself started is visible."""
    told = json.loads(victim.seen("probe"))
    assert told["processes"] == [1]
    assert told["dumpable"] == 1  # the command's own; ours was not
    for link in ("exe", "cwd", "root"):
        target = victim.seen("readlink", f"/proc/1/{link}").strip()
        assert target in ("/bin/testbox", "/bin/readlink", "/")


def test_cve_2019_14271_planted_name_service_is_not_loaded(victim: Victim) -> None:
    """Users are looked up by our own parser: the image's libnss is never mapped by us."""
    (victim.root / "etc" / "nsswitch.conf").write_text("passwd: evil\ngroup: evil\n")
    for directory in ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu"):
        (victim.root / directory).mkdir(parents=True, exist_ok=True)
        (victim.root / directory / "libnss_evil.so.2").write_text("not a library")
    assert victim.seen("id", flags=("-u", "root")) == "0:0\n"
    assert "no such user" in victim.refused("id", flags=("-u", "somebody"))


def test_cve_2026_47262_passwd_of_the_image_leads_to_nothing_of_the_host(victim: Victim) -> None:
    secret = victim.sentinel / "passwd"
    victim.replace("etc/passwd", f"../../../../../..{secret}")
    assert "no such user" in victim.refused("id", flags=("-u", "somebody"))
    victim.replace("etc/passwd", "/dev/zero")
    assert "is not a regular file" in victim.refused("id", flags=("-u", "root"))
    (victim.root / "etc" / "passwd").unlink()
    os.mkfifo(victim.root / "etc" / "passwd")
    assert "is not a regular file" in victim.refused("id", flags=("-u", "root"))


# -- races -------------------------------------------------------------------------------------------


def exchange(one: Path, other: Path) -> None:
    """renameat2(2) with RENAME_EXCHANGE: there is no moment in which either name is missing."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(-100, names[0], -100, names[1], 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_cve_2021_30465_swapped_target_never_leads_outside(victim: Victim) -> None:
    """Also CVE-2024-45310: a directory and a link to the host change places while mounts are made."""
    shared = victim.root / "shared"
    (shared / "place").mkdir(parents=True)
    (shared / "trap").symlink_to(victim.sentinel)
    source = victim.sentinel.parent / "source"
    source.mkdir()
    (source / "mine").touch()
    over = threading.Event()

    def swap() -> None:
        for _ in range(1_000_000):
            if over.is_set():
                return
            exchange(shared / "place", shared / "trap")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(25):
            done = victim.run("mounts", flags=("-v", f"{source}:/shared/place/a/b"))
            if done.returncode:
                assert done.returncode == 125, done.stderr
                continue
            targets = [entry["target"] for entry in json.loads(done.stdout)["mounts"]]
            ours = [target for target in targets if target.endswith("/a/b")]
            inside = ("/shared/place/a/b", "/shared/trap/a/b", f"{victim.sentinel}/a/b")
            assert len(ours) == 1
            assert ours[0] in inside
    finally:
        over.set()
        swapping.join()
    assert os.listdir(source) == ["mine"]
