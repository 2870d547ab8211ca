# SPDX-License-Identifier: Apache-2.0
"""`system check`: each kind of damage is found, and mended where it can be, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import check as checking
from rootless.engine import containers, images, removal
from rootless.images import records
from rootless.oci import document
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage import locks
from tests.lib import archives, rootfs, trees
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import FakeRegistry, digest

pytestmark = [
    pytest.mark.needs("userns"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

BASE = archives.layer({"bin/base": b"base", "etc/shared": b"lower"})
TOP = archives.layer({"bin/top": b"top" * 1000, "etc/shared": b"upper"})
TWO = "docker.io/library/two:latest"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, testbox: Path) -> Iterator[Paths]:
    """A store with two images, three names and a container, to be copied."""
    directory = tmp_path_factory.mktemp("template")
    paths = Paths(str(directory / "store"), str(directory / "run"))
    rootless = CommandLine(paths)
    layout = archives.Layout(directory / "layout")
    layout.name(layout.add_manifest(BASE, TOP), "two:latest")
    rootless.ok("load", "-i", layout.tar(directory / "layout.tar"))
    archive = directory / "testbox.tar"
    root = rootfs.build(directory / "rootfs", testbox)
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", archive, "."], check=True)
    rootless.ok("import", archive, "testbox")
    rootless.ok("run", "--name", "kept", "--network=none", "testbox", "true")
    # The kernel's own directory of overlayfs has mode 0 and cannot be copied; it is made anew.
    (work,) = Path(paths.containers).glob("*/work")
    (work / "work").rmdir()
    yield paths
    shutil.rmtree(directory)


@pytest.fixture
def paths(template: Paths, tmp_path: Path) -> Iterator[Paths]:
    subprocess.run(["cp", "-a", template.data, tmp_path / "store"], check=True)
    (tmp_path / "run").mkdir(mode=0o700)
    yield Paths(str(tmp_path / "store"), str(tmp_path / "run"))
    for path in (tmp_path / "store").rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(tmp_path / "store")


# -- where things are in that store ---------------------------------------------------------------


def two(paths: Paths) -> dict[str, Any]:
    """The image record of the two layers."""
    return records.get(paths, "two")


def record_of_two(paths: Paths) -> Path:
    return Path(paths.image(two(paths)["id"]))


def reference_of_two(paths: Paths) -> Path:
    return Path(paths.reference(TWO))


def blob_of(paths: Paths, which: str) -> Path:
    record = two(paths)
    found = {"config": record["id"], "manifest": record["manifest"]["digest"]}
    return Path(paths.blob(found.get(which) or record["layers"][1]["digest"]))


def layer_of(paths: Paths) -> Path:
    return Path(paths.layer(idmap.default().key, digest(TOP)))


def container_of(paths: Paths) -> Path:
    (name,) = os.listdir(paths.containers)
    return Path(paths.container(name))


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def edit(path: Path, **changes: Any) -> None:
    replace(path, json.dumps({**json.loads(path.read_bytes()), **changes}).encode())


def put(path: Path, data: bytes = b"stray") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def without_write(path: Path, change: Callable[[Path], object]) -> None:
    """Change what lies in a directory without its time telling of it."""
    before = os.stat(path.parent)
    change(path)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


Damage = Callable[[Paths], object]

# What is done to the store, the kind of the fault and what the problem says.
MENDED: dict[str, tuple[Damage, str, str]] = {
    "version missing": (lambda p: os.unlink(p.version), "store", "missing"),
    "version garbled": (lambda p: put(Path(p.version), b"\0junk"), "store", "damaged"),
    "oci-layout missing": (lambda p: os.unlink(p.oci_layout), "store", "missing"),
    "oci-layout garbled": (lambda p: put(Path(p.oci_layout)), "store", "damaged"),
    "directory missing": (lambda p: os.rmdir(p.tmp), "directory", "missing"),
    "directory open to others": (lambda p: os.chmod(p.blobs, 0o755), "directory", "mode 755"),
    "abandoned work": (lambda p: put(Path(p.tmp, "blob.1.abc")), "leftover", "abandoned"),
    "abandoned tree": (lambda p: put(Path(p.tmp, "layer.1.abc/tree/f")), "leftover", "abandoned"),
    "abandoned mark": (lambda p: put(Path(p.tmp, "content.1.abc")), "leftover", "abandoned"),
    "lock that is none": (lambda p: os.mkdir(p.lock("layer", "x")), "file", "not a lock"),
    "blob of nobody": (
        lambda p: put(Path(p.blob(digest(b"stray")))),
        "blob",
        "no image has it",
    ),
    "stray file among blobs": (lambda p: put(Path(p.blobs, "sha256/x")), "file", "unknown"),
    "stray algorithm": (lambda p: put(Path(p.blobs, "md5/x")), "file", "unknown"),
    "blob unreadable": (lambda p: blob_of(p, "layer").chmod(0), "blob", "unreadable"),
    "image record missing": (
        lambda p: record_of_two(p).unlink(),
        "image",
        "record is missing",
    ),
    "image record garbled": (lambda p: replace(record_of_two(p), b"{]"), "image", "not JSON"),
    "image record empty": (lambda p: replace(record_of_two(p), b""), "image", "not JSON"),
    "image record without fields": (
        lambda p: replace(record_of_two(p), b"{}"),
        "image",
        "fields are missing",
    ),
    "image record about another": (
        lambda p: edit(record_of_two(p), id=digest(b"other")),
        "image",
        "damaged: it is about",
    ),
    "image record that lies": (
        lambda p: edit(record_of_two(p), config={"Cmd": ["evil"]}),
        "image",
        "not what its config says",
    ),
    "image record unreadable": (lambda p: record_of_two(p).chmod(0), "image", "unreadable"),
    "stray file among images": (lambda p: put(Path(p.images, "x.json")), "file", "unknown"),
    "reference garbled": (lambda p: replace(reference_of_two(p), b"nil"), "reference", "not JSON"),
    "reference without fields": (
        lambda p: replace(reference_of_two(p), b"[]"),
        "reference",
        "fields are missing",
    ),
    "reference about another": (
        lambda p: edit(reference_of_two(p), reference="docker.io/library/three:latest"),
        "reference",
        "damaged: it is about",
    ),
    "reference to nothing": (
        lambda p: records.tag(p, "docker.io/library/gone:latest", digest(b"gone")),
        "reference",
        "its image is not here",
    ),
    "stray file among references": (lambda p: put(Path(p.references, "%")), "file", "unknown"),
    "index missing": (lambda p: os.unlink(p.index), "index", "missing"),
    "index garbled": (lambda p: replace(Path(p.index), b"\xff"), "index", "not JSON"),
    "index stale": (
        lambda p: edit(Path(p.index), manifests=[]),
        "index",
        "not what the references say",
    ),
    "layer missing": (lambda p: shutil.rmtree(layer_of(p)), "layer", "not unpacked"),
    "layer.json missing": (
        lambda p: (layer_of(p) / "layer.json").unlink(),
        "layer",
        "layer.json is missing",
    ),
    "layer.json garbled": (
        lambda p: replace(layer_of(p) / "layer.json", b"x"),
        "layer",
        "layer.json is damaged",
    ),
    "layer.json about another": (
        lambda p: edit(layer_of(p) / "layer.json", diff_id=digest(BASE)),
        "layer",
        "about another layer",
    ),
    "tree missing": (lambda p: shutil.rmtree(layer_of(p) / "tree"), "layer", "tree is missing"),
    "file of a layer missing": (
        lambda p: without_write(layer_of(p) / "tree/bin/top", Path.unlink),
        "layer",
        "altered",
    ),
    "file of a layer truncated": (
        lambda p: os.truncate(layer_of(p) / "tree/bin/top", 10),
        "layer",
        "altered",
    ),
    "file of a layer altered": (
        lambda p: alter_in_place(layer_of(p) / "tree/bin/top"),
        "layer",
        "altered",
    ),
    "file of a layer with another mode": (
        lambda p: (layer_of(p) / "tree/etc/shared").chmod(0o777),
        "layer",
        "altered",
    ),
    "file added to a layer": (
        lambda p: without_write(layer_of(p) / "tree/bin/new", lambda f: f.write_text("x")),
        "layer",
        "altered",
    ),
    "attribute added to a layer": (
        lambda p: os.setxattr(layer_of(p) / "tree/bin", "user.new", b"x"),
        "layer",
        "altered",
    ),
    "layer of nobody": (
        lambda p: layer_of(p).with_name("a" * 64).mkdir(),
        "layer",
        "no image has it",
    ),
    "stray file among layers": (lambda p: put(layer_of(p).with_name("x")), "file", "unknown"),
    "stray id map": (lambda p: put(Path(p.layers, "x")), "file", "unknown"),
    "container never completed": (
        lambda p: os.mkdir(p.container("a" * 64)),
        "leftover",
        "never completed",
    ),
    "container record garbled": (
        lambda p: replace(container_of(p) / "container.json", b"x"),
        "container",
        "its record is damaged",
    ),
    "container record unreadable": (
        lambda p: (container_of(p) / "container.json").chmod(0),
        "container",
        "unreadable",
    ),
    "container to be removed": (
        lambda p: edit(container_of(p) / "container.json", auto_remove=True),
        "leftover",
        "was to be removed",
    ),
    "stray file among containers": (lambda p: put(Path(p.containers, "x")), "file", "unknown"),
    "name missing": (lambda p: os.unlink(p.name("kept")), "name", "missing"),
    "name that is no link": (
        lambda p: replace(Path(p.name("kept")), b"x"),
        "name",
        "not a link",
    ),
    "name of nobody": (
        lambda p: os.symlink("b" * 64, p.name("lonely")),
        "name",
        "no container has it",
    ),
    "name of a container with another": (
        lambda p: os.symlink(container_of(p).name, p.name("alias")),
        "name",
        "not the name of",
    ),
    "state without container": (
        lambda p: put(Path(p.state_directory("c" * 64), "state.json"), b"{}"),
        "leftover",
        "no such container",
    ),
}


def alter_in_place(path: Path) -> None:
    """Other bytes, the same size and times: what a failing disk does."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# What cannot be mended without a registry: damage, kind, problem, and whether the image still runs.
LOST: dict[str, tuple[Damage, str, str]] = {
    "layer blob missing": (lambda p: blob_of(p, "layer").unlink(), "blob", "missing: the layer"),
    "layer blob truncated": (
        lambda p: os.truncate(blob_of(p, "layer"), 20),
        "blob",
        "truncated",
    ),
    "layer blob too long": (
        lambda p: put(blob_of(p, "layer"), blob_of(p, "layer").read_bytes() + b"x"),
        "blob",
        "too long",
    ),
    "layer blob altered": (lambda p: alter_in_place(blob_of(p, "layer")), "blob", "altered"),
    "config blob missing": (lambda p: blob_of(p, "config").unlink(), "blob", "missing: the config"),
    "config blob altered": (lambda p: alter_in_place(blob_of(p, "config")), "blob", "altered"),
    "manifest blob missing": (
        lambda p: blob_of(p, "manifest").unlink(),
        "blob",
        "missing: the manifest",
    ),
    "container whose image is gone": (
        lambda p: records.delete(p, containers.known(p)[0].image_id),
        "container",
        "its image testbox is not here",
    ),
    "container without config": (
        lambda p: (container_of(p) / "config.json").unlink(),
        "container",
        "config.json is missing",
    ),
    "container without its layer": (
        lambda p: shutil.rmtree(container_of(p) / "upper"),
        "container",
        "upper/ is missing",
    ),
}


def without_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks anybody on the network."""
    monkeypatch.setattr("rootless.images.refetch.fetch", lambda *_: False)


def healthy(paths: Paths, *spared: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every blob and record, but those spared."""
    found = {}
    for directory in (paths.blobs, paths.images, paths.references, paths.containers):
        for path in Path(directory).rglob("*"):
            if path.is_file() and path not in spared:
                status = path.stat()
                found[str(path)] = (status.st_ino, status.st_mtime_ns)
    return found


def test_whole_store_has_no_fault(paths: Paths) -> None:
    assert checking.check(paths) == []
    assert checking.check(paths, repair=True) == []


@pytest.mark.parametrize("case", MENDED)
def test_damage_is_found_and_mended(
    paths: Paths, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_registries(monkeypatch)
    damage, kind, problem = MENDED[case]
    before = healthy(paths)
    damage(paths)
    damaged = {path: known for path, known in healthy(paths).items() if before.get(path) == known}
    found = checking.check(paths)
    assert [fault.kind for fault in found if problem in fault.problem] == [kind]
    assert not any(fault.mended for fault in found)
    found = checking.check(paths, repair=True)
    assert found
    assert [str(fault) for fault in found if not fault.mended] == []
    assert checking.check(paths) == []
    after = healthy(paths)
    dropped = {"container to be removed", "container record unreadable"}
    if case not in dropped:
        assert {path: after.get(path) for path in damaged if path in after} == {
            path: known for path, known in damaged.items() if path in after
        }
    assert records.get(paths, "testbox")
    assert records.get(paths, "two")["config"] == {"Env": ["PATH=/bin"], "Cmd": ["sh"]}


@pytest.mark.parametrize("case", LOST)
def test_loss_is_found_and_told(paths: Paths, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_registries(monkeypatch)
    damage, kind, problem = LOST[case]
    if "image is gone" in case:
        records.untag(paths, "docker.io/library/testbox:latest")
    damage(paths)
    found = checking.check(paths)
    assert kind in [fault.kind for fault in found if problem in fault.problem]
    checking.check(paths, repair=True)
    left = [fault for fault in checking.check(paths) if not fault.mended]
    assert left
    assert all(fault.hint for fault in left)
    assert records.get(paths, "two")["layers"]


@pytest.mark.parametrize("which", ["config", "manifest", "layer"])
@pytest.mark.parametrize("how", ["missing", "altered"])
def test_lost_blob_is_fetched_again(
    paths: Paths, which: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", paths.run)
    with FakeRegistry() as fake:
        fake.add_image(BASE, TOP, author="somebody")
        name = f"{fake.domain}/image:latest"
        record = images.pull(paths, name)
        lost = {"config": record["id"], "manifest": record["manifest"]["digest"]}
        blob = Path(paths.blob(lost.get(which) or record["layers"][1]["digest"]))
        data = blob.read_bytes()
        blob.unlink() if how == "missing" else alter_in_place(blob)
        assert [fault.kind for fault in checking.check(paths)] == ["blob"]
        found = checking.check(paths, repair=True)
        assert all(fault.mended for fault in found)
    assert blob.read_bytes() == data
    assert checking.check(paths) == []


def test_quick_reads_no_content_and_sees_sizes(paths: Paths) -> None:
    alter_in_place(layer_of(paths) / "tree/bin/top")
    assert checking.check(paths, quick=True) == []
    os.truncate(blob_of(paths, "layer"), 5)
    assert [fault.kind for fault in checking.check(paths, quick=True)] == ["blob"]


def test_layer_is_rebuilt_as_it_was(paths: Paths) -> None:
    id_map = idmap.default()
    before = trees.names(id_map, layer_of(paths) / "tree")
    shutil.rmtree(layer_of(paths) / "tree/bin")
    checking.check(paths, repair=True)
    assert trees.names(id_map, layer_of(paths) / "tree") == before


def test_layer_a_container_runs_on_is_left_alone(paths: Paths) -> None:
    rootless = CommandLine(paths)
    with rootless.start("run", "--rm", "-i", "--network=none", "testbox", "cat") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            running.stdin.write("up\n")
            running.stdin.flush()
            assert running.stdout.readline() == "up\n"
            record = records.get(paths, "testbox")
            layer = paths.layer(idmap.default().key, record["layers"][0]["diff_id"])
            Path(layer, "tree/etc/motd").write_text("new")
            (fault,) = checking.check(paths, repair=True)
            assert not fault.mended
            assert "runs on it" in fault.failure
        finally:
            running.stdin.close()
            assert running.wait() == 0
    (fault,) = checking.check(paths, repair=True)
    assert fault.mended


def test_container_keeps_its_files_and_name_when_its_record_is_lost(paths: Paths) -> None:
    (container_of(paths) / "upper" / "precious").write_text("mine")
    put(container_of(paths) / "container.json", b"\0" * 300)
    checking.check(paths, repair=True)
    (found,) = containers.list(paths)
    assert (found.name, found.command, found.status) == ("kept", ("true",), "exited")
    assert (container_of(paths) / "upper" / "precious").read_text() == "mine"


def test_work_in_progress_is_no_fault(paths: Paths) -> None:
    path = Path(paths.tmp, "blob.1.abc")
    path.write_bytes(b"half")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert locks.try_lock(fd)
        assert checking.check(paths, repair=True) == []
    finally:
        os.close(fd)
    assert path.exists()


def test_store_of_another_layout_is_not_mended(paths: Paths) -> None:
    put(Path(paths.version), b"99\n")
    (fault,) = checking.check(paths, repair=True)
    assert "layout 99 is not ours" in fault.problem
    assert not fault.mended
    assert Path(paths.version).read_bytes() == b"99\n"


def test_no_store_has_no_fault(tmp_path: Path) -> None:
    assert checking.check(Paths(str(tmp_path / "none"), str(tmp_path / "run"))) == []
    assert os.listdir(tmp_path) == []


# -- the command ------------------------------------------------------------------------------------


def test_command_tells_and_mends(paths: Paths) -> None:
    rootless = CommandLine(paths)
    done = rootless("system", "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "the store is whole\n")
    os.unlink(paths.index)
    done = rootless("system", "check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split() == [
        "index",
        "index.json",
        "missing",
        "to",
        "be",
        "mended",
    ]
    assert done.stderr == "1 fault; rootless system check --repair mends\n"
    (row,) = [
        json.loads(line)
        for line in rootless("system", "check", "--format=json").stdout.splitlines()
    ]
    assert (row["Kind"], row["Mended"]) == ("index", False)
    done = rootless("system", "check", "--repair")
    assert (done.returncode, done.stderr) == (0, "mended all of 1 fault\n")
    assert rootless("system", "check", "--quick").returncode == 0


# -- any file at all ----------------------------------------------------------------------------------


def files_of(paths: Paths) -> list[str]:
    """Every file and link of a store, by its path below it; one of the many of a tree."""
    found = []
    for path in sorted(Path(paths.data).rglob("*")):
        name = str(path.relative_to(paths.data))
        if "/tree/bin/" in name and not name.endswith(("/top", "/testbox")):
            continue
        if path.is_symlink() or path.is_file():
            found.append(name)
    return found


GARBLED = (b"", b"{}", b"null", b"[1]", b'{"id": 3, "config": [], "layers": {}}', b"\0\xff junk")


def test_any_file_may_be_gone_or_garbled(
    template: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Reading and removing commands say at most a sentence, whatever file of the store is lost."""
    without_registries(monkeypatch)
    monkeypatch.setenv("ROOTLESS_RUN", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    names = files_of(template)
    assert len(names) > 25
    for number, name in enumerate(names):
        is_tree = "/tree/" in name or name.startswith("locks/")
        rotating = GARBLED[number % len(GARBLED)]
        for how, data in enumerate((None,) if is_tree else (None, rotating, b"[1]")):
            copy = tmp_path / f"{number}-{how}"
            # Hard links: nothing but the one file is different, and that one is replaced.
            subprocess.run(["cp", "-al", template.data, copy], check=True)
            (copy / name).unlink()
            if data is not None:
                (copy / name).write_bytes(data)
            use_all(Paths(str(copy), str(tmp_path / "run")), f"{name} <- {data!r}")
            subprocess.run(["rm", "-rf", copy], check=True)
    capfd.readouterr()


def use_all(paths: Paths, what: str) -> None:
    from rootless.cli import main

    for words in (
        ["images"],
        ["ps", "-a"],
        ["inspect", "two", "kept"],
        ["system", "check"],
        ["rmi", "-f", "two"],
        ["system", "check", "--repair"],
        ["rm", "-f", "kept"],
        ["images"],
    ):
        code = main.main(["--root", paths.data, "--runroot", paths.run, *words])
        assert code in (0, 1, 125), f"{what}: {words}: exit {code}"
        if code == 125:
            assert "version" in what, f"{what}: {words}"


def test_damaged_image_can_be_removed_by_force(paths: Paths) -> None:
    replace(record_of_two(paths), b"x")
    events = removal.remove(paths, "two", force=True)
    assert [list(event) for event in events] == [["Untagged"], ["Deleted"]]
    assert records.find(paths, "two") is None
    assert checking.check(paths) == []
    assert document.load(paths.index)["manifests"][0]["annotations"]
