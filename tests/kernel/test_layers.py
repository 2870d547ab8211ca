# SPDX-License-Identifier: Apache-2.0
"""Layers unpacked for real: owners, modes, times, whiteouts, and nothing left where it failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import DigestMismatch, Invalid, NoSpace, NotFound, RootlessError
from rootless.linux import mount
from rootless.oci import digest, document
from rootless.paths import Paths
from rootless.runtime import idmap, userns
from rootless.runtime.idmap import IdMap
from rootless.storage import store
from rootless.storage.layers import Layers
from rootless.storage.tar import Reader
from rootless.storage.unpack import Writer
from tests.lib import abilities, tarballs, trees
from tests.lib.tarballs import archive, directory, file, header, link, pax, symlink

pytestmark = pytest.mark.needs("userns")

SINGLE = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")


@pytest.fixture(params=["subids", "single"])
def layers(request: pytest.FixtureRequest, paths: Paths) -> Layers:
    """The layers of a new store, under both kinds of id map."""
    store.open_store(paths)
    if request.param == "single":
        return Layers(paths, SINGLE)
    if abilities.missing("subids"):
        pytest.skip(f"needs subids: {abilities.missing('subids')}")
    return Layers(paths, idmap.default())


@pytest.fixture
def owned(paths: Paths) -> Layers:
    """The layers of a new store whose files have owners."""
    store.open_store(paths)
    return Layers(paths, idmap.default())


def unpack(layers: Layers, data: bytes, diff_id: str | None = None) -> dict[str, trees.Node]:
    with layers.unpacker(diff_id) as unpacker:
        unpacker.write(data)
        info = unpacker.finish()
    return trees.read(layers._id_map, layers.tree(info["diff_id"]))


def names(layers: Layers, *members: bytes) -> dict[str, str]:
    found = unpack(layers, archive(*members))
    return {name: f"{node.type} {node.value}".strip() for name, node in found.items() if name}


def is_untouched(layers: Layers, paths: Paths) -> bool:
    """No layer, no work in progress, no process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return layers.list() == [] and os.listdir(paths.tmp) == [] and children == []


def test_layer_is_what_the_archive_says(layers: Layers, paths: Paths) -> None:
    data = archive(
        directory("./", 0o755, mtime=1),
        directory("etc", 0o750, mtime=2),
        file("etc/passwd", b"root", mode=0o640, mtime=3),
        file("bin/su", b"su", mode=0o6755, mtime=4),
        symlink("bin/sh", "/no/where"),
        link("bin/su2", "bin/su"),
        header(b"run/pipe", tarballs.FIFO, mode=0o600),
        file("tmp/late", b"x"),
        directory("tmp", 0o1777, mtime=5),
    )
    name = tarballs.diff_id(data)
    assert not layers.has(name)
    found = unpack(layers, data, name)
    assert layers.has(name)
    assert layers.list() == [name]
    assert os.listdir(paths.tmp) == []
    summary = {path: (node.type, node.mode, node.value) for path, node in found.items()}
    assert summary == {
        "": ("directory", 0o755, ""),
        "etc": ("directory", 0o750, ""),
        "etc/passwd": ("file", 0o640, "root"),
        "bin": ("directory", 0o755, ""),
        "bin/su": ("file", 0o6755, "su"),
        "bin/su2": ("file", 0o6755, "su"),
        "bin/sh": ("link", 0o777, "/no/where"),
        "run": ("directory", 0o755, ""),
        "run/pipe": ("fifo", 0o600, ""),
        "tmp": ("directory", 0o1777, ""),
        "tmp/late": ("file", 0o644, "x"),
    }
    assert found["bin/su"].inode == found["bin/su2"].inode
    times = {
        path: found[path].mtime // 10**9 for path in ("", "etc", "etc/passwd", "bin/su", "tmp")
    }
    assert times == {"": 1, "etc": 2, "etc/passwd": 3, "bin/su": 4, "tmp": 5}
    assert {node.owner for node in found.values()} == {(0, 0)}


def test_info_is_kept(layers: Layers) -> None:
    data = archive(file("a", b"12345"), directory("d"), header(b"dev", tarballs.CHARACTER))
    packed = subprocess.run(["gzip", "-c"], input=data, capture_output=True, check=True).stdout
    with layers.unpacker() as unpacker:
        unpacker.write(packed)
        info = unpacker.finish()
    assert info == layers.info(info["diff_id"])
    assert info["diff_id"] == tarballs.diff_id(data)
    assert (info["compression"], info["compressed"], info["archive"]) == (
        "gzip",
        len(packed),
        len(data),
    )
    assert (info["size"], info["entries"], info["files"], info["devices_skipped"]) == (5, 3, 1, 1)


@pytest.mark.needs("subids")
def test_owners_are_mapped(owned: Layers) -> None:
    data = archive(
        directory("home", owner=(1000, 100), mode=0o2770),
        file("home/.profile", b"", owner=(1000, 1000), mode=0o4711),
        file("home/inherits", b""),
        header(b"home/link", tarballs.SYMLINK, link=b"x", owner=(33, 33)),
        header(b"home/fifo", tarballs.FIFO, owner=(65534, 65534)),
        file("etc/shadow", b"", owner=(0, 42), mode=0),
    )
    found = unpack(owned, data)
    assert {name: node.owner for name, node in found.items() if name} == {
        "home": (1000, 100),
        "home/.profile": (1000, 1000),
        "home/inherits": (0, 0),
        "home/link": (33, 33),
        "home/fifo": (65534, 65534),
        "etc": (0, 0),
        "etc/shadow": (0, 42),
    }
    assert (found["home"].mode, found["home/.profile"].mode) == (0o2770, 0o4711)
    outside = os.stat(f"{owned.tree(owned.list()[0])}/home")
    assert outside.st_uid == owned._id_map.to_host_uid(1000)


@pytest.mark.needs("subids")
@pytest.mark.parametrize("owner", [(1 << 20, 0), (0, 1 << 20), (-1, 0), (0, (1 << 61) + 5)])
def test_owner_out_of_range_is_named(owned: Layers, paths: Paths, owner: tuple[int, int]) -> None:
    number = owner[0] or owner[1]
    with pytest.raises(
        Invalid, match=f"'f' belongs to [ug]id {number}, which is not mapped"
    ) as told:
        unpack(owned, archive(file("f", b"", owner=owner)))
    assert ("usermod --add-sub" in told.value.hint) == (number == 1 << 20)
    assert is_untouched(owned, paths)


def test_single_id_owns_everything(paths: Paths) -> None:
    store.open_store(paths)
    layers = Layers(paths, SINGLE)
    data = archive(directory("d", owner=(5, 5)), file("d/f", b"", owner=(1 << 30, 7), mode=0o4755))
    found = unpack(layers, data)
    assert {node.owner for node in found.values()} == {(0, 0)}
    assert found["d/f"].mode == 0o4755
    assert os.stat(f"{layers.tree(layers.list()[0])}/d/f").st_uid == os.getuid()


def test_defaults_of_the_directories_above_do_not_reach_the_layer(
    layers: Layers, paths: Paths
) -> None:
    os.chmod(paths.tmp, 0o2700)
    everybody = ((1, 7), (4, 7), (0x20, 7))  # acl(5): user, group and other, with all permissions
    entries = [struct.pack("<HHI", tag, allowed, 0xFFFFFFFF) for tag, allowed in everybody]
    with contextlib.suppress(OSError):  # a file system without ACLs
        os.setxattr(paths.tmp, "system.posix_acl_default", struct.pack("<I", 2) + b"".join(entries))
    old = os.umask(0o077)
    try:
        found = unpack(layers, archive(file("implied/f", b"", mode=0o666), directory("d", 0o755)))
    finally:
        os.umask(old)
    modes = {name: node.mode for name, node in found.items()}
    assert modes == {"": 0o755, "implied": 0o755, "implied/f": 0o666, "d": 0o755}


# -- xattrs -----------------------------------------------------------------------------------------


def test_xattrs_are_kept_where_they_mean_something(layers: Layers) -> None:
    told = {
        "SCHILY.xattr.user.mime": "text",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.fuseoverlayfs.opaque": "y",
        "SCHILY.xattr.user.containers.override_stat": "0:0:4755",
        "SCHILY.xattr.security.selinux": "label",
        "SCHILY.xattr.system.posix_acl_default": "x",
        "SCHILY.xattr.user.huge": "x" * 70_000,
    }
    found = unpack(layers, archive(pax(told), file("f"), pax(told), directory("d")))
    assert found["f"].xattrs == found["d"].xattrs == {"user.mime": "text"}
    assert layers.info(layers.list()[0])["xattrs_skipped"] == 16


@pytest.mark.parametrize("version", [2, 3])
def test_file_capabilities_belong_to_our_namespace(layers: Layers, version: int) -> None:
    """cap_net_raw+ep, packed by somebody whose root had another id."""
    value = struct.pack("<IIIII", version << 24 | 1, 1 << 13, 0, 0, 0)
    value += struct.pack("<I", 123456) if version == 3 else b""
    told = {"SCHILY.xattr.security.capability": value}
    found = unpack(layers, archive(pax(told), file("ping", b"", mode=0o755)))
    kept = found["ping"].xattrs["security.capability"].encode("latin-1")
    assert struct.unpack_from("<IIIII", kept)[1:] == (1 << 13, 0, 0, 0)
    outside = os.getxattr(f"{layers.tree(layers.list()[0])}/ping", "security.capability")
    root = layers._id_map.to_host_uid(0)
    assert struct.unpack("<IIIIII", outside)[5] == root


# -- whiteouts --------------------------------------------------------------------------------------


def whiteout(name: str) -> bytes:
    parent, _, base = name.rpartition("/")
    return file(f"{parent}/.wh.{base}" if parent else f".wh.{base}")


def test_whiteout_is_overlayfs_device(layers: Layers) -> None:
    found = names(layers, whiteout("etc/gone"), whiteout("top"))
    assert found == {"etc": "directory", "etc/gone": "device 0:0", "top": "device 0:0"}


@pytest.mark.parametrize("order", [1, -1])
def test_own_file_survives_whiteout(layers: Layers, order: int) -> None:
    assert names(layers, *(whiteout("a"), file("a", b"mine"))[::order]) == {"a": "file mine"}


@pytest.mark.parametrize("order", [1, -1])
def test_own_directory_survives_whiteout_and_hides_the_lower_one(
    layers: Layers, order: int
) -> None:
    found = unpack(layers, archive(*(whiteout("a"), directory("a"), file("a/b"))[::order]))
    assert {name: node.type for name, node in found.items() if name} == {
        "a": "directory",
        "a/b": "file",
    }
    assert found["a"].xattrs == {"user.overlay.opaque": "y"}


def test_directory_made_for_a_file_survives_whiteout(layers: Layers) -> None:
    found = unpack(layers, archive(file("a/b"), whiteout("a")))
    assert found["a"].xattrs == {"user.overlay.opaque": "y"}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_opaque_directory_hides_only_what_is_below(layers: Layers, position: int) -> None:
    members = [directory("d", 0o700), file("d/own", b"x")]
    members.insert(position, file("d/.wh..wh..opq"))
    found = unpack(layers, archive(*members))
    assert sorted(name for name in found if name) == ["d", "d/own"]
    assert (found["d"].xattrs, found["d"].mode) == ({"user.overlay.opaque": "y"}, 0o700)


@pytest.mark.parametrize("order", [1, -1])
def test_whiteouts_inside_opaque_directory_are_dropped(layers: Layers, order: int) -> None:
    members = (file("d/.wh..wh..opq"), whiteout("d/a"), whiteout("d/sub/b"), whiteout("kept"))
    assert names(layers, *members[::order]) == {
        "d": "directory",
        "d/sub": "directory",
        "kept": "device 0:0",
    }


def test_opaque_root_is_told(layers: Layers) -> None:
    unpack(layers, archive(file(".wh..wh..opq"), file("a")))
    assert layers.info(layers.list()[0])["opaque"] is True


def test_metadata_of_aufs_is_ignored(layers: Layers) -> None:
    members = (directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("a"))
    assert names(layers, *members) == {"a": "file"}


def test_mark_inside_a_name_is_no_mark(layers: Layers) -> None:
    assert names(layers, file("a.wh.b"), file(".whx")) == {"a.wh.b": "file", ".whx": "file"}


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("program", ["kernel", "fuse"])
def test_union_file_systems_understand(layers: Layers, tmp_path: Path, program: str) -> None:
    """What was deleted and hidden is gone under overlayfs and under fuse-overlayfs."""
    if program == "fuse" and abilities.missing("fuse"):
        pytest.skip(abilities.missing("fuse"))
    lower = archive(file("gone"), file("kept"), file("d/below"), file("r/f"), file("r/below"))
    upper = archive(
        whiteout("gone"), file("d/.wh..wh..opq"), file("d/own"), whiteout("r"), file("r/f")
    )
    for number, data in enumerate((upper, lower)):
        unpack(layers, data)
        (tmp_path / f"l{number}").symlink_to(layers.tree(tarballs.diff_id(data)))
    (tmp_path / "merged").mkdir()
    assert union(layers._id_map, tmp_path, program) == ["d", "d/own", "kept", "r", "r/f"]


def union(id_map: IdMap, directory: Path, program: str) -> list[str]:
    """The paths of the union of l0 and l1, as the root of the user namespace sees them."""

    def look() -> bytes:
        os.chdir(directory)
        if program == "fuse":
            subprocess.run(["fuse-overlayfs", "-o", "lowerdir=l0:l1", "merged"], check=True)
        else:
            mount.mount("overlay", "merged", "overlay", 0, "lowerdir=l0:l1,userxattr")
        os.chdir("merged")
        paths = [
            os.path.normpath(os.path.join(parent, name))
            for parent, directories, files in os.walk(".")
            for name in (*directories, *files)
        ]
        return document.dumps(sorted(paths))

    found: list[str] = document.loads(userns.call(id_map, look, isolated=False))
    return found


# -- going wrong ------------------------------------------------------------------------------------


def test_wrong_diff_id_leaves_nothing(layers: Layers, paths: Paths) -> None:
    other = digest.of(b"other")
    data = archive(file("a"))
    with pytest.raises(DigestMismatch, match=f"expected {other} got {tarballs.diff_id(data)}"):
        unpack(layers, data, other)
    assert is_untouched(layers, paths)


def test_trailing_bytes_count_for_the_diff_id(layers: Layers) -> None:
    data = archive(file("a")) + b"trailing"
    unpack(layers, data, tarballs.diff_id(data))
    assert layers.has(tarballs.diff_id(data))


def test_leaving_early_leaves_nothing(layers: Layers, paths: Paths) -> None:
    with layers.unpacker() as unpacker:
        unpacker.write(archive(file("a", bytes(2_000_000)))[:1_000_000])
    assert is_untouched(layers, paths)


def test_fault_is_told_while_writing(layers: Layers, paths: Paths) -> None:
    def write_on() -> None:
        with layers.unpacker(digest.of(b"x")) as unpacker:
            for _ in range(1000):
                unpacker.write(b"no tar at all" * 10_000)

    with pytest.raises(
        Invalid, match="cannot unpack layer sha256:[0-9a-f]+: damaged tar archive: "
    ):
        write_on()
    assert is_untouched(layers, paths)


def test_killed_worker_is_told(layers: Layers, paths: Paths) -> None:
    def lose() -> None:
        with layers.unpacker() as unpacker:
            assert unpacker._worker is not None
            os.kill(unpacker._worker.pid, 9)
            for _ in range(1000):
                unpacker.write(bytes(100_000))

    with pytest.raises(RootlessError, match="ended early"):
        lose()
    assert is_untouched(layers, paths)


def test_truncated_layer_is_told(layers: Layers, paths: Paths) -> None:
    data = archive(file("a", os.urandom(300_000)))
    packed = subprocess.run(["gzip", "-c"], input=data, capture_output=True, check=True).stdout
    with pytest.raises(Invalid, match=r"damaged gzip stream: it ends too early, at byte 100000$"):
        unpack(layers, packed[:100_000])
    assert is_untouched(layers, paths)


def test_sparse_file_has_holes_and_is_charged_in_full(layers: Layers, paths: Paths) -> None:
    told = {"GNU.sparse.name": "s", "GNU.sparse.size": "1000000", "GNU.sparse.map": "500000,3"}
    found = unpack(layers, archive(pax(told), file("x", b"abc")))
    assert found["s"].value == "\0" * 500_000 + "abc" + "\0" * 499_997
    assert found["s"].blocks < 64
    layers.remove(layers.list()[0])
    told["GNU.sparse.size"] = str(1 << 61)
    with pytest.raises(
        RootlessError, match="it unpacks to more than the [0-9]+ bytes that are free"
    ):
        unpack(layers, archive(pax(told), file("x", b"abc")))
    assert is_untouched(layers, paths)


def test_hint_that_cannot_fit_is_refused_at_once(layers: Layers, paths: Paths) -> None:
    with pytest.raises(RootlessError, match="cannot unpack the layer"):
        layers.unpacker(size_hint=1 << 61).__enter__()
    assert is_untouched(layers, paths)


def test_full_disk_is_told(layers: Layers, tmp_path: Path) -> None:
    data = archive(file("small", b"x"), file("big", bytes(2_000_000)))

    def fill() -> bytes:
        mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
        root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        writer = Writer(root, layers._id_map, 1 << 40)
        reader = Reader([data])
        for entry in reader:
            writer.add(entry, reader.data())
        return b""

    with pytest.raises(NoSpace, match="cannot write 'big': no space left on device"):
        userns.call(layers._id_map, fill)


def test_killed_command_leaves_garbage_that_is_swept(layers: Layers, paths: Paths) -> None:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        unpacker = layers.unpacker().__enter__()
        unpacker.write(archive(file("a", bytes(100_000)), end=b""))
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)
    (left,) = os.listdir(paths.tmp)
    held = os.open(f"{paths.tmp}/{left}", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # the worker dies with its parent, and the lock with it
    os.close(held)
    store.open_store(paths)
    assert is_untouched(layers, paths)


def test_remove(layers: Layers, paths: Paths) -> None:
    data = archive(directory("d", 0), file("d/f", b"", mode=0))
    unpack(layers, data)
    name = tarballs.diff_id(data)
    layers.remove(name)
    layers.remove(name)
    assert is_untouched(layers, paths)
    for use in (layers.tree, layers.info):
        with pytest.raises(NotFound, match="no such layer"):
            use(name)


def test_same_layer_is_unpacked_once(layers: Layers) -> None:
    """The second waits for the first, then has nothing to do."""
    data = archive(file("a", b"x"))
    name = tarballs.diff_id(data)
    inodes = []

    def work() -> None:
        with layers.unpacker(name) as unpacker:
            unpacker.write(data)
            unpacker.finish()
        inodes.append(os.stat(layers.tree(name)).st_ino)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inodes) == 4
    assert len(set(inodes)) == 1


def test_many_layers_at_once(layers: Layers) -> None:
    """A worker forked between the start and the end of another does not keep it waiting."""
    datas = [archive(file(f"f{number}", b"x" * 100_000)) for number in range(6)]
    with_all = [layers.unpacker(tarballs.diff_id(data)) for data in datas]

    def entered() -> Iterator[None]:
        for unpacker in with_all:
            unpacker.__enter__()
            yield

    assert len(list(entered())) == 6
    for unpacker, data in zip(with_all, datas, strict=True):
        unpacker.write(data)
        unpacker.finish()
        unpacker.__exit__(None, None, None)
    assert layers.list() == sorted(tarballs.diff_id(data) for data in datas)
