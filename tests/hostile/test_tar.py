# SPDX-License-Identifier: Apache-2.0
"""Archives that want out of their layer: each ends inside it, or in an error that says why.

Every case runs with both barriers, and with each of them alone: the resolution of paths by
descriptors, and the chroot. A directory outside, and the store, must be the same afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.errors import Invalid, RootlessError
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage import confined, store, unpack, worker
from rootless.storage.layers import Layers, Unpacker
from tests.lib import tarballs, trees
from tests.lib.tarballs import archive, directory, file, gnu_long, header, link, pax, symlink

pytestmark = pytest.mark.needs("userns")

UP = "../" * 20
# The directory outside; its path is short, and known to the tables below.
OUT = f"/tmp/rootless-outside-{os.getpid()}"


class Box:
    """A store with a directory beside it that no layer may reach."""

    def __init__(self, paths: Paths) -> None:
        store.open_store(paths)
        self.paths = paths
        self.layers = Layers(paths, idmap.default())
        self._before = trees.digest(Path(OUT))

    def unpack(self, data: bytes) -> dict[str, str]:
        """What is in the layer; raises what unpacking raises. Checks the world outside."""
        try:
            with self.layers.unpacker() as unpacker:
                unpacker.write(data)
                info = unpacker.finish()
            tree = self.layers.tree(info["diff_id"])
            return trees.names(self.layers._id_map, tree)
        finally:
            assert trees.digest(Path(OUT)) == self._before
            assert os.listdir(self.paths.tmp) == []
            assert len(os.listdir(self.paths.layers)) <= 1


def without_chroot(tree: int) -> None:
    os.umask(0)


class PlainTree(confined.Tree):
    """Resolves as the kernel does by itself: only the chroot holds it."""

    def find(self, path: bytes) -> int:
        return os.open(b"/" + path, os.O_PATH | os.O_DIRECTORY)

    def open(self, path: bytes) -> int:
        return os.open(b"/" + path, os.O_RDONLY | os.O_DIRECTORY)


@pytest.fixture(scope="module", autouse=True)
def outside() -> Iterator[None]:
    Path(OUT, "directory").mkdir(parents=True)
    Path(OUT, "secret").write_text("secret")
    yield
    shutil.rmtree(OUT)


@pytest.fixture(params=["both", "descriptors", "chroot"])
def box(request: pytest.FixtureRequest, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Box:
    """A box behind both barriers, or behind one of them."""
    if request.param == "descriptors":
        monkeypatch.setattr(worker, "shut_in", without_chroot)
    if request.param == "chroot":
        monkeypatch.setattr(unpack, "Tree", PlainTree)
    return Box(paths)


Members = tuple[bytes, ...]

REFUSED: dict[str, tuple[Members, str]] = {
    "name is parent": ((file(".."),), "path escapes root"),
    "name goes up": ((file("../x"),), "path escapes root"),
    "absolute name goes up": ((file("/../x"),), "path escapes root"),
    "name goes far up": ((file(UP + "etc/x"),), "path escapes root"),
    "name goes up in the middle": ((file("a/../../x"),), "path escapes root"),
    "PAX path goes up": ((pax({"path": "../x"}), file("x")), "path escapes root"),
    "GNU name goes up": ((gnu_long(b"../x"), file("x")), "path escapes root"),
    "prefix goes up": (
        (header(b"x", form=(tarballs.POSIX, tarballs.number(0, 8) * 2 + b"..")),),
        "path escapes root",
    ),
    "sparse name goes up": (
        (pax({"GNU.sparse.name": "../x", "GNU.sparse.size": "0", "GNU.sparse.map": ""}), file("x")),
        "path escapes root",
    ),
    "empty name": ((header(b""),), "empty name"),
    "root is a file": ((file("."),), "the root is a file"),
    "root is a link": ((symlink("/", OUT),), "the root is a symbolic link"),
    "NUL in name": ((pax({"path": "a\0b"}), file("x")), "NUL"),
    "long name": ((pax({"path": "a/" * 2100}), file("x")), "4096"),
    "long component": ((pax({"path": "a" * 256}), file("x")), "255"),
    "deep name": ((pax({"path": "a/" * 1030}), file("x")), "1024"),
    "links in a circle": ((symlink("a", "b"), symlink("b", "a"), file("a/x")), "symbolic links"),
    "link to itself": ((symlink("a", "a"), file("a/x")), "symbolic links"),
    "hard link outside": (
        (link("a", OUT + "/secret"),),
        "hard link to something the layer has not",
    ),
    "hard link goes up": ((link("a", UP + "etc/passwd"),), "path escapes root"),
    "hard link through link outside": (
        (symlink("l", OUT), link("a", "l/secret")),
        "hard link to something the layer has not",
    ),
    "hard link to later": ((link("a", "b"), file("b")), "something the layer has not"),
    "hard link to itself": ((file("a"), link("a", "a")), "hard link to itself"),
    "hard link to nothing of its name": ((link("a", "a"),), "something the layer has not"),
    "hard link to directory": ((directory("d"), link("a", "d")), "hard link to a directory"),
    "hard link to root": ((link("a", "/"),), "hard link to a directory"),
    "hard link to whiteout": ((file(".wh.x"), link("a", "x")), "something the layer has not"),
    "hard link to AUFS store": (
        (file(".wh..wh.plnk/1"), link("a", ".wh..wh.plnk/1")),
        "something the layer has not",
    ),
    "whiteout of nothing": ((file("d/.wh."),), "invalid whiteout"),
    "whiteout of the directory": ((file("d/.wh.."),), "invalid whiteout"),
    "whiteout of the parent": ((file("d/.wh..."),), "invalid whiteout"),
    "whiteout as directory": ((file(".wh.d/x"),), "invalid whiteout"),
    "opaque mark as directory": ((file("d/.wh..wh..opq/x"),), "invalid whiteout"),
    "socket": ((header(b"s", b"s"),), "unknown type 's'"),
    "unknown type": ((header(b"s", b"\xff"),), "unknown type"),
    "wrong checksum": ((tarballs.with_checksum(header(b"x"), 1),), "checksum"),
    "negative size": ((header(b"x", size=-512),), "negative size"),
    "huge size": ((header(b"x", size=1 << 62),), "are free"),
    "size beyond the end": ((header(b"x", size=1 << 20),), "ends inside a file"),
    "huge PAX header": ((header(b"x", b"x", size=1 << 30),), "larger than"),
    "huge GNU name": ((header(b"x", b"L", size=1 << 30),), "larger than"),
    "huge sparse file": (
        (pax({"GNU.sparse.size": str(1 << 62), "GNU.sparse.map": ""}), file("x")),
        "are free",
    ),
    "huge owner": ((file("x", owner=(1 << 60, 0)),), "not mapped"),
    "negative owner": ((file("x", owner=(-1, 0)),), "not mapped"),
    "owner of the host's root": ((pax({"uid": "4294967295"}), file("x")), "not mapped"),
}

# What aims at the outside lands below the same path in the layer.
INSIDE = {"tmp": "directory", OUT[1:]: "directory"}

ACCEPTED: dict[str, tuple[Members, dict[str, str]]] = {
    "absolute name": ((file("/etc/x"),), {"etc": "directory", "etc/x": "file"}),
    "absolute name of the outside": (
        (file(OUT + "/secret", b"mine"),),
        {**INSIDE, f"{OUT[1:]}/secret": "file mine"},
    ),
    "link target outside": (
        (symlink("a", OUT), symlink("b", UP)),
        {"a": "link " + OUT, "b": "link " + UP},
    ),
    "file through absolute link inside": (
        (directory("real"), symlink("l", "/real"), file("l/x")),
        {"real": "directory", "real/x": "file", "l": "link /real"},
    ),
    "file through relative link inside": (
        (directory("a/real"), symlink("a/l", "../a/real"), file("a/l/x")),
        {"a": "directory", "a/real": "directory", "a/real/x": "file", "a/l": "link ../a/real"},
    ),
    "file through chain of links": (
        (directory("r"), symlink("a", "r"), symlink("b", "/a"), symlink("c", "./b"), file("c/x")),
        {"r": "directory", "r/x": "file", "a": "link r", "b": "link /a", "c": "link ./b"},
    ),
    "file through link up": (
        (symlink("l", UP), file("l/x")),
        {"l": "link " + UP, "x": "file"},
    ),
    "file through link to a missing directory": (
        (symlink("l", "/new/dir"), file("l/x")),
        {"l": "link /new/dir", "new": "directory", "new/dir": "directory", "new/dir/x": "file"},
    ),
    "file through link with dots": (
        (symlink("l", "a/../../b"), file("l/x")),
        {"l": "link a/../../b", "a": "directory", "b": "directory", "b/x": "file"},
    ),
    "file in place of link outside": (
        (symlink("a", OUT + "/secret"), file("a", b"mine")),
        {"a": "file mine"},
    ),
    "directory in place of link outside": (
        (symlink("a", OUT + "/directory"), directory("a", 0o777), file("a/x")),
        {"a": "directory", "a/x": "file"},
    ),
    "link in place of directory": (
        (directory("a"), file("a/x"), symlink("a", OUT), directory("d")),
        {"a": "link " + OUT, "d": "directory"},
    ),
    "link in place of directory that is open": (
        (file("a/b/x"), symlink("a", "c"), file("a/b/y")),
        {"a": "link c", "c": "directory", "c/b": "directory", "c/b/y": "file"},
    ),
    "directory in place of file on the way": (
        (file("a", b"file"), file("a/x")),
        {"a": "directory", "a/x": "file"},
    ),
    "directory in place of whiteout on the way": (
        (file(".wh.a"), file("a/x")),
        {"a": "directory", "a/x": "file"},
    ),
    "directory in place of FIFO on the way": (
        (header(b"a", tarballs.FIFO), file("a/x")),
        {"a": "directory", "a/x": "file"},
    ),
    "everything in turn": (
        (
            file("a"),
            directory("a"),
            symlink("a", "b"),
            header(b"a", tarballs.FIFO),
            file("a", b"1"),
            file("a", b"2"),
        ),
        {"a": "file 2"},
    ),
    "hard link to link": (
        (symlink("l", OUT + "/secret"), link("h", "l")),
        {"l": f"link {OUT}/secret", "h": f"link {OUT}/secret"},
    ),
    "hard link replaced by file": (
        (file("a", b"old"), link("b", "a"), file("b", b"new")),
        {"a": "file old", "b": "file new"},
    ),
    "hard link twice": ((file("a"), link("b", "a"), link("b", "a")), {"a": "file", "b": "file"}),
    "hard link through link inside": (
        (file("d/a", b"x"), symlink("l", "/d"), link("b", "l/a")),
        {"d": "directory", "d/a": "file x", "l": "link /d", "b": "file x"},
    ),
    "whiteout through link outside": (
        (symlink("l", OUT), file("l/.wh.secret")),
        {**INSIDE, "l": "link " + OUT, f"{OUT[1:]}/secret": "device 0:0"},
    ),
    "opaque mark through link outside": (
        (symlink("l", OUT), file("l/.wh..wh..opq")),
        {**INSIDE, "l": "link " + OUT},
    ),
    "file through link outside": (
        (symlink("l", UP + OUT[1:]), file("l/secret", b"mine")),
        {**INSIDE, "l": f"link {UP}{OUT[1:]}", f"{OUT[1:]}/secret": "file mine"},
    ),
    "devices": (
        (header(b"a", tarballs.CHARACTER), header(b"b", tarballs.BLOCK_DEVICE), file("c")),
        {"c": "file"},
    ),
    "opaque twice": ((file("d/.wh..wh..opq"), file("d/.wh..wh..opq")), {"d": "directory"}),
    "global header": ((pax({"path": "../x"}, b"g"), file("x")), {"x": "file"}),
    "name of newline and bytes": ((file(b"a\nb"), file("é")), {"a\nb": "file", "é": "file"}),
    "end missing": ((file("x"),), {"x": "file"}),
}


@pytest.mark.needs("subids")
@pytest.mark.parametrize("case", REFUSED)
def test_refused(box: Box, case: str) -> None:
    members, reason = REFUSED[case]
    with pytest.raises(RootlessError) as caught:
        box.unpack(archive(*members))
    assert reason in caught.value.message
    assert "internal error" not in caught.value.message
    assert box.layers.list() == []


@pytest.mark.parametrize("case", ACCEPTED)
def test_contained(box: Box, case: str) -> None:
    members, expected = ACCEPTED[case]
    assert box.unpack(archive(*members)) == expected


def test_what_is_outside_stays_when_everything_aims_at_it(box: Box) -> None:
    """Ways to write, delete, link, mark and date what a link points to."""
    for target in (OUT, UP + OUT[1:], OUT + "/directory"):
        for member in (
            file("l/secret", b"evil"),
            directory("l/directory", 0o777),
            directory("l", 0o777),
            symlink("l/secret", "x"),
            header(b"l/fifo", tarballs.FIFO),
            file("l/.wh.secret"),
            file("l/.wh..wh..opq"),
            header(b"l", tarballs.FIFO),
        ):
            box.unpack(archive(symlink("l", target), member))
            box.layers.remove(box.layers.list()[0])


def test_code_in_the_layer_is_not_run(box: Box) -> None:
    """The worker is chrooted; a module it would import late would be the layer's."""
    trap = b"import os; os._exit(77)"
    version = "python3.11"
    members = [
        file(f"{top}/{name}.py", trap)
        for top in (f"usr/lib/{version}", f"usr/local/lib/{version}", "")
        for name in ("zipfile", "colorsys", "encodings/idna", "traceback", "linecache")
    ]
    box.unpack(archive(*members))
    with pytest.raises(Invalid, match="path escapes root"):
        box.unpack(archive(*members, file("../x")))


def test_path_longer_than_the_kernel_takes_is_refused(box: Box) -> None:
    """Links make a path out of a path: the directories to make lie too deep to be named."""
    step = "/".join(["d" * 100] * 30)
    members: list[bytes] = [pax({"path": f"{step}/x"}), file("x")]
    members += [pax({"linkpath": step}), symlink("l", "x")]
    members += [pax({"path": f"l/{step}/x"}), file("x")]
    with pytest.raises(Invalid, match="file name too long"):
        box.unpack(archive(*members))


def test_tree_deeper_than_a_path_can_say(box: Box) -> None:
    """Directory by directory, each link starting where the last one ended."""
    members: list[bytes] = []
    for number in range(10):
        path = f"l{number - 1}" if number else "top"
        members += [] if number else [directory(path)]
        for _ in range(20):
            path += "/" + "d" * 100
            members += [pax({"path": path}), directory("x", 0o500)]
        members += [pax({"linkpath": path}), symlink(f"l{number}", "x")]
    with box.layers.unpacker() as unpacker:
        unpacker.write(archive(*members))
        unpacker.finish()
    box.layers.remove(box.layers.list()[0])
    assert os.listdir(box.paths.tmp) == []


def test_many_entries_take_no_memory(paths: Paths) -> None:
    box = Box(paths)
    some = archive(*(symlink(f"d/{number}", "x") for number in range(1000)), end=b"")
    with box.layers.unpacker() as unpacker:
        unpacker.write(some)
        before = peak_memory(unpacker)
        for _ in range(50):
            unpacker.write(some)
        assert peak_memory(unpacker) - before < 20_000
        unpacker.finish()


def peak_memory(unpacker: Unpacker) -> int:
    """The worker's peak so far, in KiB; it began with what pytest has."""
    assert unpacker._worker is not None
    status = Path(f"/proc/{unpacker._worker.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


# -- mutations --------------------------------------------------------------------------------------

SEED = archive(
    directory("etc", 0o755),
    file("etc/passwd", b"root:x:0:0" * 100),
    symlink("lib", "usr/lib"),
    link("etc/group", "etc/passwd"),
    pax({"path": "usr/lib/long", "mtime": "1.5", "SCHILY.xattr.user.a": "b"}),
    file("short", b"abc"),
    gnu_long(b"usr/share/doc"),
    directory("x"),
    file("usr/.wh.gone"),
    file("usr/share/.wh..wh..opq"),
    pax({"GNU.sparse.size": "1000", "GNU.sparse.map": "0,1,500,2"}),
    file("sparse", b"abc"),
)

FIELDS = ((0, 100), (100, 24), (124, 12), (148, 8), (156, 1), (157, 100), (257, 8), (345, 155))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """SEED with some header fields, blocks or bytes replaced, and the checksums made right again."""
    data = bytearray(SEED)
    for _ in range(draw(st.integers(1, 6))):
        block = draw(st.integers(0, len(data) // 512 - 1)) * 512
        offset, length = draw(st.sampled_from(FIELDS))
        junk = draw(st.one_of(st.binary(max_size=length), st.sampled_from(JUNK)))[:length]
        data[block + offset : block + offset + len(junk)] = junk
        if draw(st.booleans()):
            _mend(data, block)
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


JUNK = [
    b"../../../../tmp/x\0",
    b"/etc/passwd\0",
    b"lib/../lib\0",
    b"lib\0",
    b".wh.\0",
    b"\0",
    b"\xff" * 12,
    b"\x80" + b"\xff" * 11,
    b"77777777777\0",
    b"2",
    b"1",
    b"5",
    b"x",
    b"L",
    b"S",
    b"30 path=../../../../../tmp/evil\n",
]


def _mend(data: bytearray, start: int) -> None:
    block = bytes(data[start : start + 512])
    counted = block[:148] + b" " * 8 + block[156:]
    data[start : start + 512] = tarballs.with_checksum(block, sum(counted))


@pytest.fixture(scope="module")
def fuzz_box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    base = tmp_path_factory.mktemp("fuzz")
    return Box(Paths(str(base / "store"), str(base / "run")))


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(mutated())
def test_mutated_archive_is_contained_or_refused(fuzz_box: Box, data: bytes) -> None:
    reason = ""
    try:
        fuzz_box.unpack(data)
    except RootlessError as problem:
        reason = problem.message
    assert "internal error" not in reason
    assert "ended early" not in reason
    for name in fuzz_box.layers.list():
        fuzz_box.layers.remove(name)
