# SPDX-License-Identifier: Apache-2.0
"""A store on a disk with no byte free: looking and removing work, bringing in fails cleanly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.engine import check
from rootless.paths import Paths
from tests.crash.census import census
from tests.lib import archives, rootfs, view
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import FakeRegistry

pytestmark = [
    pytest.mark.needs("userns"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SMALL = archives.layer({"small": b"s" * 1000})
LARGE = archives.layer({"large": os.urandom(3 << 20)})
SIZE = 80 << 20  # unpacking leaves 64 of them free


class Disk:
    """A store on a small file system, with two images and a container, and nothing free."""

    def __init__(self, directory: Path, box: Path) -> None:
        mounted = directory / "disk"
        mounted.mkdir()
        view.mount_disk(mounted, SIZE)
        self.directory = directory
        (directory / "run").mkdir(mode=0o700)
        self.paths = Paths(str(mounted / "store"), str(directory / "run"))
        self.rootless = CommandLine(self.paths)
        layout = archives.Layout(directory / "layout")
        layout.name(layout.add_manifest(SMALL), "small:latest")
        layout.name(
            layout.add_manifest(SMALL, archives.layer({"own": b"o" * 100_000})), "two:latest"
        )
        self.rootless.ok("load", "-i", layout.tar(directory / "layout.tar"))
        root = rootfs.build(directory / "root", box)
        archive = directory / "testbox.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        self.rootless.ok("import", archive, "testbox")
        self.rootless.ok("run", "--name", "kept", "--network=none", "testbox", "true")
        self.ballast = view.fill(mounted)

    def whole(self) -> bool:
        """Nothing wrong but an index nobody could write."""
        return [fault.kind for fault in check.check(self.paths) if fault.kind != "index"] == []


def look(disk: Disk) -> None:
    for words in (
        ("ps", "-a"),
        ("images",),
        ("inspect", "kept", "two", "testbox"),
        ("system", "df"),
        ("system", "check"),
        ("info",),
    ):
        disk.rootless.ok(*words)


def remove(disk: Disk) -> None:
    disk.rootless.ok("rmi", "two")
    assert disk.whole()
    view.fill(disk.ballast.parent)
    disk.rootless.ok("rm", "kept")
    assert disk.whole()
    view.fill(disk.ballast.parent)
    disk.rootless.ok("rmi", "testbox", "small")
    assert "testbox" not in disk.rootless.ok("images")
    assert os.listdir(disk.paths.blobs + "/sha256") == []
    assert check.check(disk.paths) == []


def prune(disk: Disk) -> None:
    disk.rootless.ok("container", "prune", "-f")
    view.fill(disk.ballast.parent)
    disk.rootless.ok("image", "prune", "-a", "-f")
    view.fill(disk.ballast.parent)
    disk.rootless.ok("system", "prune", "-a", "-f")
    assert disk.rootless.ok("images", "-q") == ""
    assert check.check(disk.paths) == []


def reset(disk: Disk) -> None:
    disk.rootless.ok("system", "reset", "-f")
    assert not os.path.exists(disk.paths.data)


def bring_in(disk: Disk) -> None:
    registry = FakeRegistry()
    registry.add_image(SMALL, LARGE, author="x")
    before = census(disk.paths)
    with registry:
        done = disk.rootless("pull", "-q", f"{registry.domain}/image")
        assert done.returncode == 1
        assert "bytes" in done.stderr
        assert "free some" in done.stderr
    for words in (
        ("load", "-i", disk.directory / "layout.tar"),
        ("import", disk.directory / "testbox.tar", "x"),
    ):
        done = disk.rootless(*words)
        assert done.returncode == 1, done
        assert "internal error" not in done.stderr
    done = disk.rootless("run", "--network=none", "testbox", "true")
    assert done.returncode == 125
    assert "space" in done.stderr
    assert census(disk.paths) == before
    disk.ballast.unlink()
    disk.rootless.ok("run", "--rm", "--network=none", "testbox", "true")
    assert check.check(disk.paths) == []


@pytest.mark.parametrize("scenario", [look, remove, prune, reset, bring_in])
def test_store_without_a_byte_free(
    tmp_path: Path, testbox: Path, scenario: Callable[[Disk], None]
) -> None:
    view.inside(lambda: scenario(Disk(tmp_path, testbox)))


def test_pull_that_fills_the_disk_leaves_nothing(tmp_path: Path, testbox: Path) -> None:
    """It fits by what the manifest says and not unpacked: the disk is full in the middle."""

    def scenario() -> None:
        disk = Disk(tmp_path, testbox)
        disk.ballast.unlink()
        packed = archives.layer({"zeros": bytes(16 << 20)})
        registry = FakeRegistry()
        registry.add_image(packed, author="x")
        before = census(disk.paths)
        with registry:
            done = disk.rootless("pull", "-q", f"{registry.domain}/image")
        assert done.returncode == 1
        assert "free" in done.stderr
        disk.rootless.ok("system", "prune", "-f", "--filter", "label=none")
        assert census(disk.paths) == before
        assert check.check(disk.paths) == []

    view.inside(scenario)
