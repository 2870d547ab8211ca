# SPDX-License-Identifier: Apache-2.0
"""The commands that are killed, on a store that has something to lose."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rootless.engine import containers
from rootless.paths import Paths
from tests.lib import archives, rootfs
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import FakeRegistry

BASE = archives.layer({"bin/base": b"base" * 5000, "etc/shared": b"lower"})
TOP = archives.layer({"bin/top": b"top" * 50_000, "etc/shared": b"upper"})
NEW = archives.layer({f"usr/{number}": b"%d" % number * 3000 for number in range(8)})


@dataclass(frozen=True)
class Operation:
    """A command line; `prepare` makes repeating it possible after it came to its end unseen."""

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Paths], None] | None = None
    may_fail: bool = False  # the second time, when the first came to its end


@dataclass(frozen=True)
class Stage:
    """A prepared store, and what the operations need besides."""

    paths: Paths
    directory: Path
    operations: tuple[Operation, ...]


def set_up(directory: Path, registry: FakeRegistry) -> Stage:
    """Make the store that every run begins with: two images that share a layer, and a container."""
    paths = Paths(str(directory / "store"), str(directory / "run"))
    rootless = CommandLine(paths)
    layout = archives.Layout(directory / "layout")
    layout.name(layout.add_manifest(BASE, TOP), "two:latest")
    layout.name(layout.add_manifest(BASE), "one:latest")
    rootless.ok("load", "-i", layout.tar(directory / "layout.tar"))
    root = rootfs.build(directory / "root", rootfs.compile_testbox(directory / "testbox"))
    testbox = directory / "testbox.tar"
    subprocess.run(["tar", "-C", root, "-cf", testbox, "."], check=True)
    rootless.ok("import", testbox, "testbox")
    rootless.ok("run", "--name", "kept", "--network=none", "testbox", "true")
    (work,) = Path(paths.containers).glob("*/work")
    (work / "work").rmdir()  # of mode 0: it could not be copied, and is made anew
    new = archives.Layout(directory / "new")
    new.name(new.add_manifest(BASE, NEW), "new:latest")
    archive = new.tar(directory / "new.tar")
    registry.add_image(BASE, NEW, TOP, author="somebody")
    pulled = f"{registry.domain}/image:latest"
    run = ("run", "--network=none")
    operations = (
        Operation("pull", ("pull", "-q", pulled)),
        Operation("load", ("load", "-q", "-i", str(archive))),
        Operation("import", ("import", str(testbox), "fresh")),
        Operation("run --rm", (*run, "--rm", "testbox", "true")),
        Operation("run", (*run, "--name", "next", "testbox", "true"), _forget_next),
        Operation("rm", ("rm", "kept"), may_fail=True),
        Operation("rmi", ("rmi", "two"), may_fail=True),
        Operation("image prune", ("image", "prune", "-a", "-f")),
    )
    return Stage(paths, directory, operations)


def _forget_next(paths: Paths) -> None:
    for container in containers.list(paths):
        if container.name == "next":
            containers.remove(paths, container)
