# SPDX-License-Identifier: Apache-2.0
"""Fixtures and the `needs` marker; what they are made of is in `tests.lib`.

@pytest.mark.cve("CVE-2019-5736")           a past failure of others; -k cve_2019_5736 finds it
@pytest.mark.needs("overlay", "subids")     skips with the reason where the host cannot, fails in CI
testbox                                     the compiled static test program
rootfs(files={...})                         makes a root file system of it
paths                                       a private store, removed afterwards
rootless("run", "--rm", ...)                the command line on that store
image                                       the name of an image made of `rootfs()` in that store
oci("create", "--bundle", oci.bundle("true"), "id")   the OCI runtime on a root of its own; leaves nothing
clean_host                                  fails the test if it leaves a mount, a child or a descriptor
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from rootless.paths import Paths
from tests.lib import abilities, oci_runtime
from tests.lib import rootfs as root_file_systems
from tests.lib.command_line import CommandLine

# Examples are not kept: the checkout may belong to somebody else, and every run starts equal.
settings.register_profile("rootless", database=None, deadline=None)
settings.load_profile("rootless")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let -k find a test by every id it is about, not only by the one in its name."""
    for mark in item.iter_markers("cve"):
        names = (name.lower().replace("-", "_").replace(" ", "_") for name in mark.args)
        item.extra_keyword_matches.update(names)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for ability in mark.args:
            demand(ability)


def demand(ability: str) -> None:
    """Skip the test, or fail it in a strict run, when the host lacks the ability."""
    reason = abilities.missing(ability)
    if not reason:
        return
    if abilities.is_strict() and not abilities.is_waived(ability):
        pytest.fail(f"this host lacks {ability}: {reason}", pytrace=False)
    pytest.skip(f"needs {ability}: {reason}")


@pytest.fixture(scope="session")
def testbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static test program, compiled once a session."""
    demand("cc")
    return root_file_systems.compile_testbox(tmp_path_factory.mktemp("testbox") / "testbox")


@pytest.fixture
def rootfs(tmp_path: Path, testbox: Path) -> Callable[..., Path]:
    """A function that makes a new root file system, with further files by path."""
    made: list[Path] = []

    def make(files: Mapping[str, str] | None = None) -> Path:
        made.append(tmp_path / f"rootfs{len(made) or ''}")
        return root_file_systems.build(made[-1], testbox, files)

    return make


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    """A private store and runtime directory; removed with the files that belong to other ids."""
    (tmp_path / "run").mkdir(mode=0o700)
    yield Paths(str(tmp_path / "store"), str(tmp_path / "run"))
    for directory in ("store", "run"):
        _remove(tmp_path / directory)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        from rootless.runtime import idmap, userns

        userns.remove_tree(idmap.default(), str(directory))


@pytest.fixture
def rootless(paths: Paths) -> CommandLine:
    """The command line on the private store."""
    return CommandLine(paths)


@pytest.fixture
def image(rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path) -> str:
    """The name of an image made of the test program, imported into the private store."""
    archive = tmp_path / "testbox.tar"
    subprocess.run(["tar", "-C", rootfs(), "-cf", archive, "."], check=True)
    rootless.ok("import", archive, "testbox")
    return "testbox"


@pytest.fixture
def oci(tmp_path: Path, rootfs: Callable[..., Path]) -> Iterator[oci_runtime.Runtime]:
    """The OCI runtime on a private root; fails the test if a process, mount or directory is left."""
    with oci_runtime.serving(tmp_path / "oci", rootfs) as runtime:
        yield runtime


@pytest.fixture
def clean_host() -> Iterator[None]:
    """The test leaves no mount, no child process and no open descriptor of this process behind."""
    before = _traces()
    yield
    assert _traces() == before


def _traces() -> dict[str, object]:
    me = Path("/proc/self")
    children = (me / "task" / str(os.getpid()) / "children").read_text().split()
    return {
        "mounts": (me / "mountinfo").read_text(),
        "children": children,
        "descriptors": len(os.listdir(me / "fd")),
    }
