# SPDX-License-Identifier: Apache-2.0
"""Trees packed and unpacked again: nothing is lost, and the bytes are always the same."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage import store
from rootless.storage.layers import Layers
from rootless.storage.pack import packed
from tests.lib import tarballs, trees
from tests.lib.tarballs import archive, directory, file, header, link, pax, symlink

pytestmark = pytest.mark.needs("userns")


@pytest.fixture
def layers(paths: Paths) -> Layers:
    store.open_store(paths)
    return Layers(paths, idmap.default())


def unpack(layers: Layers, data: bytes) -> str:
    with layers.unpacker() as unpacker:
        unpacker.write(data)
        return layers.tree(unpacker.finish()["diff_id"])


def pack(layers: Layers, tree: str | Path) -> bytes:
    return b"".join(packed(layers._id_map, str(tree)))


LONG = "/".join(["d" * 99] * 4)
MEMBERS = (
    directory("./", 0o711, mtime=7),
    directory("etc", 0o2750, mtime=1, owner=(5, 6)),
    file("etc/a", b"content" * 1000, mode=0o4755, mtime=2, owner=(1000, 65535)),
    file("etc/.wh.gone"),
    file("opaque/.wh..wh..opq"),
    file("opaque/own"),
    symlink("etc/l", "a"),
    pax({"linkpath": "t" * 200}), symlink("long-link", "x"),
    link("b", "etc/a"),
    header(b"fifo", tarballs.FIFO, mode=0o600),
    pax({"path": LONG + "/file", "mtime": "-5", "SCHILY.xattr.user.mime": "a=\nb"}),
    file("x", b"deep", mode=0),
    file("n" * 50 + "/" + "m" * 60, b"prefix"),
    file(b"caf\xe9"),
)  # fmt: skip


@pytest.mark.needs("subids")
def test_round_trip_keeps_everything(layers: Layers) -> None:
    tree = unpack(layers, archive(*MEMBERS))
    data = pack(layers, tree)
    again = unpack(layers, data)
    assert again != tree
    before, after = trees.read(layers._id_map, tree), trees.read(layers._id_map, again)
    for nodes in (before, after):
        assert nodes["b"].inode == nodes["etc/a"].inode

    def comparable(nodes: dict[str, trees.Node]) -> dict[str, trees.Node]:
        implied = {name: 0 for name in nodes if name in ("opaque", "n" * 50) or "dd" in name}
        return {
            name: node._replace(inode=0, blocks=0, mtime=implied.get(name, node.mtime // 10**9))
            for name, node in nodes.items()
            if node.type != "device"
        }

    assert comparable(before) == comparable(after)
    assert after["etc/gone"].type == "device"
    assert after["opaque"].xattrs == {"user.overlay.opaque": "y"}
    assert pack(layers, again) == data


@pytest.mark.needs("subids")
def test_other_programs_read_it(layers: Layers) -> None:
    data = pack(layers, unpack(layers, archive(*MEMBERS)))
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        members = {member.name: member for member in found}
    assert list(members)[:5] == [".", "b", "caf\udce9", "fifo", "long-link"]
    assert (members["b"].mode, members["b"].uid, members["b"].gid) == (0o4755, 1000, 65535)
    assert members["etc/a"].islnk()
    assert members["etc/.wh.gone"].size == members["opaque/.wh..wh..opq"].size == 0
    assert members[LONG + "/file"].mtime == -5
    assert members["long-link"].linkname == "t" * 200


def test_same_tree_gives_same_bytes(layers: Layers, tmp_path: Path) -> None:
    archives = []
    for number, names in enumerate((("a", "b", "c"), ("c", "b", "a"))):
        top = tmp_path / f"tree{number}"
        top.mkdir()
        for name in names:
            (top / name).write_text(name)
            os.utime(top / name, (1, 1))
        os.utime(top, (1, 1))
        archives.append(pack(layers, top))
    assert archives[0] == archives[1]


def test_sockets_are_left_out(layers: Layers, tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    os.mknod(top / "socket", 0o140600)
    assert trees.names(layers._id_map, unpack(layers, pack(layers, top))) == {}


def test_stopping_early_ends_the_process(layers: Layers, tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    (top / "big").write_bytes(bytes(5_000_000))
    pieces = packed(layers._id_map, str(top))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""
