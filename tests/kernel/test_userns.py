# SPDX-License-Identifier: Apache-2.0
"""Work in a user namespace of its own: answers and errors travel, nothing stays, trees are deleted."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rootless import errors
from rootless.errors import HostUnable, NotFound, RootlessError
from rootless.linux import mount, process, tree
from rootless.runtime import idmap, userns
from rootless.runtime.idmap import IdMap
from tests.lib import waiting

pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]

SINGLE = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")
CHECKOUT = Path(__file__).parents[2]


def test_answer_comes_back_whole() -> None:
    assert userns.call(SINGLE, lambda: b"") == b""
    assert userns.call(SINGLE, lambda: b"x" * 1_000_000) == b"x" * 1_000_000


def test_function_runs_as_root_of_a_namespace_with_the_map() -> None:
    def look() -> bytes:
        ids = (*os.getresuid(), *os.getresgid())
        seen = idmap.read("/proc/self")
        return repr((ids, seen.uids, seen.gids)).encode()

    expected = ((0,) * 6, SINGLE.uids, SINGLE.gids)
    assert userns.call(SINGLE, look) == repr(expected).encode()


@pytest.mark.needs("subids")
def test_subordinate_ids_are_mapped() -> None:
    id_map = idmap.default()

    def look() -> bytes:
        os.setgroups([5, 6])
        os.setresgid(7, 7, 7)
        os.setresuid(8, 8, 8)
        return repr((os.getgroups(), os.getuid(), os.getgid())).encode()

    assert len(id_map.uids) > 1
    assert userns.call(id_map, look) == b"([5, 6], 8, 7)"


@pytest.mark.parametrize("uid", [0, 200])
def test_map_that_keeps_an_id_elsewhere(uid: int) -> None:
    def look() -> bytes:
        return str(os.stat(CHECKOUT / "tests").st_uid).encode()

    id_map = idmap.keep_id(uid, uid)
    assert userns.call(id_map, lambda: str(os.getuid()).encode()) in (b"0", str(uid).encode())
    assert userns.call(id_map, look).isdigit()


def test_isolated_work_has_no_network_and_other_work_the_callers() -> None:
    def network() -> bytes:
        return os.readlink("/proc/self/ns/net").encode()

    own = os.readlink("/proc/self/ns/net").encode()
    assert userns.call(SINGLE, network) != own
    assert userns.call(SINGLE, network, isolated=False) == own


def test_mounts_of_the_function_are_its_own(tmp_path: Path) -> None:
    def hide() -> bytes:
        mount.mount("tmpfs", str(tmp_path), "tmpfs", 0)
        (tmp_path / "inside").touch()
        return b""

    userns.call(SINGLE, hide)
    assert os.listdir(tmp_path) == []


def _raise(problem: BaseException) -> bytes:
    raise problem


@pytest.mark.parametrize(
    "kind",
    sorted(
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, RootlessError) and name != "Interrupted"
    ),
)  # fmt: skip
def test_our_errors_travel_with_their_hints(kind: str) -> None:
    made = getattr(errors, kind)
    with pytest.raises(made, match="^what: “it”$") as failed:
        userns.call(SINGLE, lambda: _raise(made("what: “it”", hint="do this")))
    assert type(failed.value) is made
    assert failed.value.hint == "do this"


def test_os_errors_travel_with_number_and_path() -> None:
    name = os.fsdecode(b"/no/\xff")
    with pytest.raises(FileNotFoundError) as failed:
        userns.call(SINGLE, lambda: str(os.stat(name)).encode())
    assert (failed.value.errno, failed.value.filename) == (errno.ENOENT, name)
    with pytest.raises(OSError) as full:
        userns.call(SINGLE, lambda: _raise(OSError(errno.ENOSPC, "full")))
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, None)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ValueError("odd"), "internal error: ValueError: odd"),
        (MemoryError(), "out of memory"),
        (RecursionError("deep"), "internal error: RecursionError: deep"),
    ],
)
def test_other_errors_are_told_in_a_sentence(problem: Exception, message: str) -> None:
    with pytest.raises(RootlessError, match=message):
        userns.call(SINGLE, lambda: _raise(problem))


@pytest.mark.parametrize("problem", [SystemExit(3), KeyboardInterrupt()])
def test_end_without_an_answer_is_an_error(problem: BaseException) -> None:
    with pytest.raises(RootlessError, match="ended early"):
        userns.call(SINGLE, lambda: _raise(problem))


def test_killed_worker_is_an_error_and_kill_is_final() -> None:
    def die() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(RootlessError, match="ended early, with status -9"):
        userns.call(SINGLE, die)
    worker = userns.spawn(SINGLE, lambda: signal.pause() or b"")  # type: ignore[func-returns-value]
    worker.kill()
    worker.kill()
    with pytest.raises(ChildProcessError):
        worker.wait()


def test_map_the_host_refuses_is_one_sentence() -> None:
    stranger = IdMap(((0, 0, 1),), ((0, 0, 1),), "not ours")
    with pytest.raises(HostUnable, match="cannot map ids into a user namespace: uid_map") as failed:
        userns.call(stranger, lambda: b"")
    assert failed.value.hint


@pytest.mark.needs("subids")
def test_subordinate_ids_of_somebody_else_are_refused() -> None:
    theirs = ((0, os.getuid(), 1), (1, 4_000_000_000, 65536))
    with pytest.raises(HostUnable, match="cannot map subordinate ids: .* not allowed"):
        userns.call(IdMap(theirs, theirs, "not ours"), lambda: b"")


def test_descriptors_stay_usable_in_the_worker(tmp_path: Path) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    worker = userns.spawn(SINGLE, lambda: os.read(reading, 100))
    os.write(writing, b"through the pipe")
    assert worker.wait() == b"through the pipe"
    os.close(reading)
    os.close(writing)


_PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from rootless.runtime import idmap, userns
worker = userns.spawn(idmap.parse(sys.argv[2]), lambda: signal.pause() or b"")
print(worker.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("mode", ["", "host"])
def test_worker_dies_with_its_parent(mode: str) -> None:
    command = [sys.executable, "-c", _PARENT, str(CHECKOUT), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = process.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert waiting.ended(worker)


# -- deleting ----------------------------------------------------------------------------------------


def make_deep(directory: Path, depth: int) -> None:
    """A chain of directories far longer than any path may be, with a file at every level."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for _ in range(depth):
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=fd))
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    make_deep(doomed, 3000)
    userns.remove_tree(SINGLE, str(doomed))
    assert os.listdir(tmp_path) == []


def test_missing_tree_is_fine(tmp_path: Path) -> None:
    userns.remove_tree(SINGLE, str(tmp_path / "missing"))


def test_tree_of_modes_that_forbid_everything_is_removed(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    for name in ("a/b/c", "a/d", "e"):
        (doomed / name).mkdir(parents=True)
        (doomed / name / "file").write_text("x")
    for name in ("a/b/c/file", "a/b/c", "a/b", "a/d", "a", "e", ""):
        (doomed / name).chmod(0)
    userns.remove_tree(SINGLE, str(doomed))
    assert os.listdir(tmp_path) == []


def test_tree_of_odd_names_and_kinds_is_removed(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    (doomed / ".delete-1" / ".delete-1").mkdir(parents=True)
    (doomed / ".delete-2").mkdir()
    (doomed / "x" / ".delete-3" / "y").mkdir(parents=True)
    os.mkfifo(doomed / "fifo")
    (doomed / "link").symlink_to("/")
    (doomed / "file\n").write_text("x")
    os.mkdir(os.fsencode(doomed) + b"/\xff\xfe")
    userns.remove_tree(SINGLE, str(doomed))
    assert os.listdir(tmp_path) == []


def test_link_is_not_followed(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("precious")
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "link").symlink_to(keep)
    (tmp_path / "top").symlink_to(keep)
    userns.remove_tree(SINGLE, str(doomed))
    with pytest.raises(OSError):
        userns.remove_tree(SINGLE, str(tmp_path / "top"))
    assert (keep / "file").read_text() == "precious"


@pytest.mark.needs("subids")
def test_tree_of_foreign_owners_is_removed(tmp_path: Path) -> None:
    id_map = idmap.default()
    doomed = tmp_path / "doomed"
    doomed.mkdir()

    def make() -> bytes:
        for name in ("a", "a/b", "a/b/c"):
            os.mkdir(doomed / name)
            (doomed / name / "file").write_text("x")
        for name in ("a/b/c", "a/b", "a"):
            os.chown(doomed / name, 5, 6)
            os.chmod(doomed / name, 0)
        return b""

    userns.call(id_map, make)
    userns.remove_tree(id_map, str(doomed))
    assert os.listdir(tmp_path) == []


def test_mount_below_is_busy_and_what_it_shows_survives(tmp_path: Path) -> None:
    source, doomed = tmp_path / "source", tmp_path / "doomed"
    (source / "directory").mkdir(parents=True)
    (source / "file").write_text("precious")
    (doomed / "a" / "mounted").mkdir(parents=True)

    def remove() -> bytes:
        mount.mount(str(source), str(doomed / "a" / "mounted"), None, mount.MS_BIND)
        tree.remove(str(doomed))
        return b""

    with pytest.raises(OSError) as failed:
        userns.call(SINGLE, remove)
    assert failed.value.errno == errno.EBUSY
    assert (source / "file").read_text() == "precious"
    assert (source / "directory").is_dir()
    userns.remove_tree(SINGLE, str(doomed))
    assert not doomed.exists()


def test_what_is_raised_names_what_is_not_there() -> None:
    with pytest.raises(NotFound, match=re.escape("no such thing: x")):
        userns.call(SINGLE, lambda: _raise(NotFound("no such thing: x")))
