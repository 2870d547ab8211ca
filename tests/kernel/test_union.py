# SPDX-License-Identifier: Apache-2.0
"""One suite over all union drivers: whatever makes the root of layers, the tree is the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostUnable, UsageError
from rootless.oci import document
from rootless.paths import Paths
from rootless.runtime import idmap, userns
from rootless.runtime.idmap import IdMap
from rootless.runtime.rootfs import Stage
from rootless.storage import copy, store, union
from tests.lib import trees

pytestmark = [pytest.mark.needs("userns", "subids"), pytest.mark.usefixtures("clean_host")]

MAP = idmap.default()
OPAQUE = "user.overlay.opaque"
Files = Mapping[str, Any]


def build(directory: Path, files: Files) -> str:
    """Make a layer as storage.layers unpacks one: text, "->link", None a whiteout, dict a directory.

    A directory's dict may hold "mode:", "owner:", "xattr:" and "opaque:", a file is text or such a dict
    with "text:".
    """
    directory.mkdir(parents=True)

    def make() -> bytes:
        os.umask(0)
        _fill(str(directory), files)
        return b""

    userns.call(MAP, make)
    return str(directory)


def _fill(directory: str, files: Files) -> None:
    for name, what in files.items():
        if name.endswith(":"):
            continue
        path = f"{directory}/{name}"
        if what is None:
            os.mknod(path, stat.S_IFCHR, 0)
        elif isinstance(what, str) and what.startswith("->"):
            os.symlink(what[2:], path)
        elif isinstance(what, str) and what.startswith("=>"):
            os.link(f"{directory}/{what[2:]}", path)
        elif isinstance(what, str) or "text:" in what:
            _write(path, what if isinstance(what, str) else what["text:"], 0o644)
        else:
            os.mkdir(path, 0o755)
            _fill(path, what)
        if isinstance(what, dict):
            _adorn(path, what)


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    os.write(fd, text.encode())
    os.close(fd)


def _adorn(path: str, what: Files) -> None:
    os.chown(path, *what.get("owner:", (0, 0)))
    if "mode:" in what:
        os.chmod(path, what["mode:"])
    for name, value in what.get("xattr:", {}).items():
        os.setxattr(path, name, value)
    if what.get("opaque:"):
        os.setxattr(path, OPAQUE, b"y")
    os.utime(path, (1_600_000_000, 1_600_000_000))


class Mounted:
    """Runs functions on the union of layers, each in a namespace where it is mounted."""

    def __init__(self, driver: str, directory: Path) -> None:
        self.driver = driver
        self.container = directory

    def make(self, lowers: list[str]) -> None:
        """The directories of one container; `lowers` are uppermost first."""
        self.lowers = lowers
        self.container.mkdir(parents=True)
        if self.driver == "copy":
            copy.copy_layers(MAP, lowers, str(self.container))
        else:
            for name in ("upper", "work", "merged"):
                (self.container / name).mkdir(mode=0o755)

    def call(self, function: Callable[[str], Any]) -> Any:
        """What `function` gives for the path of the root; what it writes is kept by the container."""
        made = union.union(self.driver, "test", self.lowers, str(self.container))
        last = "rootfs" if self.driver == "copy" else "merged"

        def run() -> bytes:
            os.umask(0)
            if made.server is not None:
                made.server.start()
            stage = Stage()
            made.step.execute(stage)
            answer = function(str(self.container / last))
            os.close(stage.root)
            return document.dumps(answer)

        return document.loads(userns.call(MAP, run, isolated=False))

    def read(self) -> dict[str, list[Any]]:
        """Every path of the root -> type, mode, owner, value, user attributes."""
        seen: dict[str, list[Any]] = self.call(_read)
        return seen


def _read(top: str) -> dict[str, list[Any]]:
    found = {}
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            kind, mode, owner, _, value, xattrs, *_ = trees._node(os.fsencode(path), b"")[1:]
            mine = {key: text for key, text in xattrs.items() if key.startswith("user.")}
            mode = 0 if kind == "link" else mode
            found[path[len(top) + 1 :]] = [kind, mode, owner, value, mine]
    return found


def text(content: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> list[Any]:
    return ["file", mode, list(owner), content, {}]


@pytest.fixture(
    params=[
        pytest.param("overlay", marks=pytest.mark.needs("overlay")),
        pytest.param("fuse-overlayfs", marks=pytest.mark.needs("fuse")),
        "copy",
    ]
)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


Mount = Callable[..., Mounted]


@pytest.fixture
def mount(driver: str, tmp_path: Path, paths: Paths) -> Mount:
    """A function that mounts layers, lowest first."""
    store.open_store(paths)

    def make(*layers: Files, name: str = "c") -> Mounted:
        base = Path(paths.data)
        built = [build(base / f"{name}-layers" / str(n), each) for n, each in enumerate(layers)]
        mounted = Mounted(driver, base / f"{name}-container")
        mounted.make(built[::-1])
        return mounted

    return make


def test_upper_layer_comes_first(mount: Mount) -> None:
    seen = mount(
        {"a": "low", "b": "low", "d": {"x": "low"}}, {"b": "high", "d": {"y": "high"}}
    ).read()
    assert seen["a"][3] == "low"
    assert seen["b"][3] == "high"
    assert (seen["d/x"][3], seen["d/y"][3]) == ("low", "high")


def test_whiteout_hides_what_is_below_it(mount: Mount) -> None:
    low = {"file": "x", "directory": {"below": "x"}, "kept": "x"}
    seen = mount(low, {"file": None, "directory": None, "never-there": None}).read()
    assert set(seen) == {"kept"}


def test_what_comes_after_a_whiteout_is_there_again(mount: Mount) -> None:
    seen = mount(
        {"a": "1", "d": {"x": "1"}}, {"a": None, "d": None}, {"a": "3", "d": {"y": "3"}}
    ).read()
    assert seen["a"] == text("3")
    assert "d/y" in seen
    assert "d/x" not in seen


def test_opaque_directory_hides_the_contents_below(mount: Mount) -> None:
    low = {"d": {"x": "low", "e": {"f": "low"}}}
    seen = mount(low, {"d": {"y": "high", "opaque:": True}}).read()
    assert set(seen) == {"d", "d/y"}
    assert seen["d"][4] in ({}, {OPAQUE: "y"})


def test_kind_may_change_from_layer_to_layer(mount: Mount) -> None:
    low = {"a": "file", "b": {"x": "1"}, "c": "->b", "d": {"x": "1"}}
    high = {"a": {"y": "2"}, "b": "file", "c": {"z": "3"}, "d": "->a"}
    seen = mount(low, high).read()
    assert {name: node[0] for name, node in seen.items()} == {
        "a": "directory", "a/y": "file", "b": "file", "c": "directory", "c/z": "file", "d": "link"
    }  # fmt: skip


def test_owners_modes_attributes_and_links_are_kept(mount: Mount) -> None:
    seen = mount(
        {
            "setuid": {"text:": "x", "owner:": (1, 2), "mode:": 0o6755},
            "secret": {"owner:": (5, 5), "mode:": 0o700, "in": {"text:": "y", "owner:": (5, 6), "mode:": 0o600}},
            "tagged": {"text:": "z", "xattr:": {"user.tag": b"value"}},
            "sticky": {"mode:": 0o1777},
            "link": "->/etc/passwd",
            "high": {"text:": "h", "owner:": (65535, 65534)},
        }
    ).read()  # fmt: skip
    assert seen["setuid"] == text("x", 0o6755, (1, 2))
    assert seen["secret"][:3] == ["directory", 0o700, [5, 5]]
    assert seen["secret/in"] == text("y", 0o600, (5, 6))
    assert seen["tagged"][4] == {"user.tag": "value"}
    assert seen["sticky"][1] == 0o1777
    assert (seen["link"][0], seen["link"][3]) == ("link", "/etc/passwd")
    assert seen["high"][2] == [65535, 65534]


def test_hard_links_are_one_file(mount: Mount) -> None:
    def look(top: str) -> list[Any]:
        one, other = os.stat(f"{top}/one"), os.stat(f"{top}/other")
        return [one.st_ino == other.st_ino, one.st_nlink]

    assert mount({"one": "x", "other": "=>one"}).call(look) == [True, 2]


def change(top: str) -> None:
    """What a container does to its root."""
    os.rename(f"{top}/moved", f"{top}/elsewhere")
    os.unlink(f"{top}/deleted")
    os.unlink(f"{top}/d/x")
    os.rmdir(f"{top}/d")
    os.mkdir(f"{top}/d")
    _write(f"{top}/d/new", "new", 0o600)
    with open(f"{top}/appended", "a") as file:
        file.write(" and more")
    os.chown(f"{top}/owned", 7, 8)
    os.chmod(f"{top}/owned", 0o4711)
    os.symlink("target", f"{top}/link")
    os.link(f"{top}/owned", f"{top}/linked")
    os.setxattr(f"{top}/owned", "user.new", b"1")
    os.mkdir(f"{top}/empty")
    os.rename(f"{top}/empty", f"{top}/renamed")


LOWER = {
    "moved": "m", "deleted": "x", "d": {"x": "x", "y": None}, "appended": "text", "owned": "o",
    "big": "b" * 100_000,
}  # fmt: skip


def test_writes_are_seen_stay_and_do_not_reach_the_layers(mount: Mount) -> None:
    mounted = mount(LOWER)
    before = trees.digest(Path(mounted.lowers[0]))
    mounted.call(change)
    seen = mounted.read()
    assert trees.digest(Path(mounted.lowers[0])) == before
    assert seen["elsewhere"][3] == "m"
    assert seen["appended"][3] == "text and more"
    assert seen["d/new"] == text("new", 0o600)
    assert seen["owned"][:3] == ["file", 0o4711, [7, 8]]
    assert seen["linked"][:3] == seen["owned"][:3]
    assert seen["owned"][4] == {"user.new": "1"}
    assert seen["link"][3] == "target"
    assert "renamed" in seen
    assert not {"moved", "deleted", "d/x", "empty"} & set(seen)


def test_directory_of_a_layer_can_be_renamed_or_refuses_in_the_way_mv_knows(mount: Mount) -> None:
    def rename(top: str) -> str:
        try:
            os.rename(f"{top}/d", f"{top}/e")
        except OSError as problem:
            return os.strerror(problem.errno or 0)
        return "done"

    mounted = mount({"d": {"x": "x"}})
    done = mounted.call(rename)
    assert done in ("done", os.strerror(18))  # EXDEV: mv(1) then copies
    assert ("e/x" if done == "done" else "d/x") in mounted.read()


def test_128_layers(mount: Mount) -> None:
    layers = [{f"f{n}": str(n), "same": str(n), "d": {f"g{n}": ""}} for n in range(128)]
    seen = mount(*layers).read()
    assert seen["same"][3] == "127"
    assert {f"f{n}" for n in range(128)} <= set(seen)
    assert sum(name.startswith("d/g") for name in seen) == 128


@pytest.mark.parametrize(
    "name", ["with space", "co:lon", "com,ma", "back\\slash", "'\"$", "n" * 240, "ü" * 120]
)
def test_store_path_may_hold_anything(mount: Mount, driver: str, name: str) -> None:
    if driver == "fuse-overlayfs" and ":" in name:
        return  # cannot: the next test
    mounted = mount({"a": "1", "b": "1"}, {"b": "2"}, name=name)
    assert {path: node[3] for path, node in mounted.read().items()} == {"a": "1", "b": "2"}
    mounted.call(lambda top: _write(f"{top}/new", "x", 0o644))
    assert "new" in mounted.read()


def test_fuse_overlayfs_is_not_used_where_a_colon_would_empty_the_root(paths: Paths) -> None:
    odd = Paths(paths.data + "/co:lon", paths.run)
    with pytest.raises(HostUnable, match="takes no path with a colon"):
        union.choose(odd, MAP, "fuse-overlayfs")


def test_layer_path_longer_than_an_option_may_be(mount: Mount) -> None:
    name = "/".join(["x" * 100] * 4)
    layers: list[Files] = [{f"f{n}": str(n)} for n in range(5)]
    assert len(mount(*layers, name=name).read()) == 5


def test_drivers_show_the_same_tree(tmp_path: Path, paths: Paths) -> None:
    from tests.conftest import demand

    demand("overlay")
    demand("fuse")
    store.open_store(paths)
    layers: list[Files] = [
        {**LOWER, "o": {"p": "p", "q": {"r": "r"}}, "w": "w", "s": {"text:": "s", "mode:": 0o2755}},
        {"o": {"q": {"t": "t", "opaque:": True, "owner:": (3, 4), "mode:": 0o711}}, "w": None},
    ]
    base = Path(paths.data)
    lowers = [build(base / str(n), each) for n, each in enumerate(layers)][::-1]
    seen = []
    for name in union.DRIVERS:
        mounted = Mounted(name, base / name)
        mounted.make(lowers)
        mounted.call(change)
        tree = mounted.read()
        for node in tree.values():
            node[4].pop(OPAQUE, None)  # fuse-overlayfs shows a layer's own marks
        seen.append(tree)
    assert seen[0] == seen[1]
    assert seen[0] == seen[2]


# -- choosing ----------------------------------------------------------------------------------------


@pytest.mark.needs("overlay")
def test_overlay_is_chosen_where_it_works_and_the_answer_is_remembered(paths: Paths) -> None:
    store.open_store(paths)
    assert union.choose(paths, MAP) == ("overlay", "works in a user namespace here")
    assert Path(paths.run, "overlay-mapped").exists()
    assert os.listdir(paths.tmp) == []
    assert union.choose(paths, MAP) == ("overlay", "works in a user namespace here")
    assert union.choose(paths, MAP, "overlay") == ("overlay", "asked for")


@pytest.mark.parametrize(("forced", "driver"), [("copy", "copy"), ("vfs", "copy")])
def test_copy_is_only_used_when_asked_for(paths: Paths, forced: str, driver: str) -> None:
    assert union.choose(paths, MAP, forced) == (driver, "asked for")


def test_unknown_driver_is_refused(paths: Paths) -> None:
    with pytest.raises(UsageError, match="no such storage driver: btrfs") as failed:
        union.choose(paths, MAP, "btrfs")
    assert failed.value.hint == "use one of: overlay, fuse-overlayfs, copy"


def test_remembered_obstacle_of_this_boot_is_believed(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open_store(paths)
    about = f"{os.uname().release} {paths.data}"
    Path(paths.run, "overlay-mapped").write_text(f"{about}\nno such luck")
    with pytest.raises(HostUnable, match="cannot use overlayfs: no such luck"):
        union.choose(paths, MAP, "overlay")
    monkeypatch.setattr(idmap, "find_program", lambda name: "")
    driver, reason = union.choose(paths, MAP)
    assert (driver, "no such luck" in reason, "not installed" in reason) == ("copy", True, True)


def test_answer_about_another_kernel_is_asked_again(paths: Paths) -> None:
    store.open_store(paths)
    remembered = Path(paths.run, "overlay-single")
    remembered.write_text(f"1.0 {paths.data}\nno such luck")
    single = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")
    union.choose(paths, single)
    assert remembered.read_text().startswith(f"{os.uname().release} {paths.data}\n")
