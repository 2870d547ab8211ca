# SPDX-License-Identifier: Apache-2.0
"""The embedded image `host`: what is in its skeleton, what is not, and when it is made anew."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Conflict
from rootless.images import host, records, userland
from rootless.paths import Paths
from rootless.storage import staging, store
from tests.lib.together import at_once

PRIVATE = ("shadow", "gshadow", "sudoers", "ssh", "machine-id", "hostname", "hosts", "resolv.conf")


@pytest.fixture
def made(paths: Paths) -> dict[str, Any]:
    store.open_store(paths)
    return records.get(paths, "host")


@pytest.fixture
def tree(made: dict[str, Any]) -> Path:
    (lower,) = made["lower"]
    return Path(lower)


def test_record_is_that_of_an_image(made: dict[str, Any]) -> None:
    assert made["host"] is True
    assert made["layers"] == []
    assert made["config"]["Cmd"] in (["/bin/bash"], ["/bin/sh"])
    assert made["id"].startswith("sha256:")


def test_usr_is_bound_read_only(made: dict[str, Any], tree: Path) -> None:
    (mount,) = [each for each in made["mounts"] if each["destination"] == "/usr"]
    assert mount["source"] == "/usr"
    assert {"rbind", "ro", "nosuid", "nodev"} <= set(mount["options"])
    for each in made["mounts"]:
        assert (tree / each["destination"][1:]).is_dir()


def test_links_are_those_of_the_machine(tree: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        on_host = Path("/", name)
        if on_host.is_symlink():
            assert os.readlink(tree / name) == os.readlink(on_host)
        elif on_host.exists():
            assert (tree / name).is_dir()


@pytest.mark.parametrize(
    ("name", "mode"),
    [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("etc", 0o755), ("proc", 0o755)],
)
def test_directories_have_their_modes(tree: Path, name: str, mode: int) -> None:
    assert stat.S_IMODE((tree / name).stat().st_mode) == mode


def test_public_files_are_copied_and_belong_to_the_caller(tree: Path) -> None:
    assert (tree / "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    for directory, names, files in os.walk(tree):
        for name in names + files:
            assert os.lstat(os.path.join(directory, name)).st_uid == os.getuid()


def test_private_files_are_not_there(tree: Path) -> None:
    for name in PRIVATE:
        assert not os.path.lexists(tree / "etc" / name)
    assert not os.path.lexists(tree / "etc/ssl/private")


def test_nothing_is_special_or_setuid(tree: Path) -> None:
    for directory, _, files in os.walk(tree):
        for name in files:
            mode = os.lstat(os.path.join(directory, name)).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISLNK(mode)
            assert not mode & (stat.S_ISUID | stat.S_ISGID)


def test_second_look_makes_nothing(
    paths: Paths, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(userland, "build")
    assert records.get(paths, "host") == made
    assert records.get(paths, made["id"]) == made
    assert records.get(paths, made["id"][7:19]) == made


def test_upgrade_makes_it_anew_and_keeps_what_runs(
    paths: Paths, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made["id"]]
    for version in ("second", "third", "fourth"):
        monkeypatch.setattr(host, "fingerprint", lambda version=version: version)
        ids.append(host.record(paths)["id"])
    assert len(set(ids)) == 4
    kept = {name for name in os.listdir(paths.host_image) if name != "current"}
    assert kept == {host.key(ids[2]), host.key(ids[3])}  # the one before may be about to run
    assert os.listdir(paths.tmp) == []


def test_skeleton_of_a_container_is_kept(
    paths: Paths, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(paths.container("c"))
    Path(paths.container_record("c")).write_text(f'{{"image_id": "{made["id"]}"}}')
    for version in ("second", "third"):
        monkeypatch.setattr(host, "fingerprint", lambda version=version: version)
        host.record(paths)
    assert Path(made["lower"][0], "etc/passwd").exists()


def test_several_at_once_make_one(paths: Paths) -> None:
    store.open_store(paths)

    def look(_number: int) -> None:
        host.record(paths)

    at_once(4, look)
    assert len(os.listdir(paths.host_image)) == 2


def test_failure_leaves_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    store.open_store(paths)

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging, "write_file", full)
    with pytest.raises(Exception, match="cannot make the image host"):
        host.record(paths)
    assert os.listdir(paths.host_image) == []
    assert os.listdir(paths.tmp) == []


def test_unreadable_large_and_special_files_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    target.mkdir()
    (source / "d/good").write_text("x")
    (source / "d/private").write_text("x")
    (source / "d/private").chmod(0o640)
    (source / "d/closed").mkdir(mode=0o700)
    (source / "d/large").write_bytes(b"x" * 100)
    os.mkfifo(source / "d/pipe")
    (source / "d/link").symlink_to("/etc/shadow")
    monkeypatch.setattr(userland, "MAX_FILE", 50)
    userland._Copy(str(source), str(target)).copy("d")
    assert sorted(os.listdir(target / "d")) == ["good", "link"]
    assert os.readlink(target / "d/link") == "/etc/shadow"  # leads nowhere in the container


def test_host_is_neither_pulled_nor_removed(paths: Paths, made: dict[str, Any]) -> None:
    from rootless.engine import images, removal

    with pytest.raises(Conflict):
        images.pull(paths, "host")
    with pytest.raises(Conflict):
        removal.remove(paths, "host", force=True)
    found = images.inspect(paths, "host")
    assert found["Id"] == made["id"]
    assert found["RepoTags"] == []
