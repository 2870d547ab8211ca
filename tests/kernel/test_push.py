# SPDX-License-Identifier: Apache-2.0
"""Images that leave the store: to a real registry and into archives, read back by skopeo and podman."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.images import records
from tests.hostile.test_registry_tls import certificate
from tests.lib import archives, registry
from tests.lib.abilities import find_program
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import digest

pytestmark = [pytest.mark.needs("userns", "docker-registry", "skopeo")]

BASE = archives.layer({"bin/base": b"base", "etc/shared": b"lower"})
TOP = archives.layer({"bin/top": b"top", "etc/shared": b"upper"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with one image of each compression."""
    directory = tmp_path_factory.mktemp("registry")
    layout = archives.Layout(directory / "layout")
    for how in ("none", "gzip", "zstd"):
        history = [{"created": "2024-01-01T00:00:00Z", "created_by": step} for step in ("1", "2")]
        layout.name(layout.add_manifest(BASE, TOP, how=how, history=history), how)
    with registry.serving(directory) as name:
        for how in ("none", "gzip", "zstd"):
            registry.copy(f"oci:{layout.directory}:{how}", f"docker://{name}/from:{how}")
        target = f"docker://{name}/from:v2s2"
        registry.copy(f"oci:{layout.directory}:gzip", target, "--format", "v2s2")
        yield name


def raw(name: str) -> bytes:
    """The manifest a registry has, as it is."""
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw(name))
    return found


# -- registries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["none", "gzip", "zstd", "v2s2"])
def test_what_was_pulled_is_pushed_to_the_byte(
    server: str, rootless: CommandLine, how: str
) -> None:
    source, target = f"{server}/from:{how}", f"{server}/to-{how}:x"
    rootless.ok("pull", "-q", source)
    rootless.ok("tag", source, target)
    out = rootless.ok("push", target).splitlines()
    assert raw(target) == raw(source)
    body = raw(target)
    assert out[-1] == f"x: digest: {digest(body)} size: {len(body)}"
    assert records.find_reference(rootless.paths, target)["digest"] == digest(body)  # type: ignore[index]


def test_push_says_what_docker_says(server: str, rootless: CommandLine) -> None:
    source, target = f"{server}/from:gzip", f"{server}/said:latest"
    rootless.ok("pull", "-q", source)
    rootless.ok("tag", source, target)
    base, top = digest(BASE)[7:19], digest(TOP)[7:19]
    first = rootless.ok("push", f"{server}/said").splitlines()
    assert first[:2] == [
        "Using default tag: latest",
        f"The push refers to repository [{server}/said]",
    ]
    assert sorted(first[2:-1]) == sorted(
        [f"{name}: Preparing" for name in (base, top)]
        + [f"{name}: Mounted from {server}/from" for name in (base, top)]
    )
    again = rootless.ok("push", f"{server}/said").splitlines()
    assert f"{base}: Layer already exists" in again
    assert again[-1] == first[-1]
    assert rootless.ok("push", "-q", target) == target + "\n"


def test_image_of_ours_is_compressed_once_and_the_same_everywhere(
    server: str, rootless: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "root.tar").write_bytes(BASE)
    for name in ("one", "two"):
        rootless.ok("import", tmp_path / "root.tar", f"{server}/{name}")
        rootless.ok("tag", f"{server}/one", f"{server}/{name}")
    first = rootless.ok("push", f"{server}/one").splitlines()
    assert f"{digest(BASE)[7:19]}: Compressing" in first
    (layer,) = manifest(f"{server}/one")["layers"]
    assert layer["mediaType"].endswith("+gzip")
    second = rootless.ok("push", f"{server}/two").splitlines()
    assert f"{digest(BASE)[7:19]}: Mounted from {server}/one" in second
    assert raw(f"{server}/two") == raw(f"{server}/one")
    assert os.listdir(rootless.paths.tmp) == []


@pytest.mark.parametrize(
    ("flags", "suffix"),
    [
        (["--compression", "zstd"], "+zstd"),
        (["--compression", "zstd", "--compression-level", "9"], "+zstd"),
        (["--compression-level", "9"], "+gzip"),
        (["--compression", "uncompressed"], ".tar"),
    ],
)
def test_compression_that_is_asked_for(
    server: str, rootless: CommandLine, flags: list[str], suffix: str
) -> None:
    source, target = f"{server}/from:gzip", f"{server}/compressed:{'-'.join(flags).strip('-')}"
    rootless.ok("pull", "-q", source)
    rootless.ok("tag", source, target)
    rootless.ok("push", *flags, target)
    found = manifest(target)
    assert all(layer["mediaType"].endswith(suffix) for layer in found["layers"])
    assert found["config"]["digest"] == manifest(source)["config"]["digest"]
    rootless.ok("rmi", "-f", source)
    rootless.ok("pull", "-q", target)
    assert rootless.ok("images", "-q", "--no-trunc").strip() == found["config"]["digest"]


def test_all_tags_of_a_repository_go_and_come(server: str, rootless: CommandLine) -> None:
    rootless.ok("pull", "-q", f"{server}/from:gzip")
    for tag in ("a", "b"):
        rootless.ok("tag", f"{server}/from:gzip", f"{server}/many:{tag}")
    out = rootless.ok("push", "-a", f"{server}/many")
    assert "a: digest: sha256:" in out
    assert "b: digest: sha256:" in out
    rootless.ok("rmi", f"{server}/many:a", f"{server}/many:b")
    assert rootless.ok("pull", "-a", "-q", f"{server}/many") == f"{server}/many\n"
    tags = rootless.ok("images", "--format", "{{.Tag}}", f"{server}/many").split()
    assert sorted(tags) == ["a", "b"]


def test_second_pull_of_an_unchanged_tag_fetches_no_layer(
    server: str, rootless: CommandLine
) -> None:
    rootless.ok("pull", "-q", f"{server}/from:gzip")
    again = rootless.ok("pull", f"{server}/from:gzip").splitlines()
    assert [line.partition(": ")[2] for line in again[1:3]] == ["Already exists"] * 2


def test_image_that_is_not_whole_is_not_pushed(server: str, rootless: CommandLine) -> None:
    rootless.ok("pull", "-q", f"{server}/from:gzip")
    rootless.ok("tag", f"{server}/from:gzip", f"{server}/broken:1")
    blob = Path(rootless.paths.blob(digest(gzip.compress(BASE, 6, mtime=0))))
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    # Sent nowhere else before, so that the registry has to be told.
    damaged = rootless("push", "--compression", "zstd", f"{server}/broken:1")
    assert damaged.returncode == 1
    blob.unlink()
    missing = rootless("push", f"{server}/broken:1")
    assert missing.returncode == 1
    assert "is not complete" in missing.stderr
    assert subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{server}/broken:1"],
        check=False, capture_output=True,
    ).returncode  # fmt: skip


def test_registry_that_wants_a_login(
    rootless: CommandLine, tmp_path: Path, rootfs: Any, image: str
) -> None:
    config = tmp_path / "docker"
    home = {"DOCKER_CONFIG": str(config), "XDG_RUNTIME_DIR": str(tmp_path)}
    with registry.serving(tmp_path, with_login=True) as name:
        rootless.ok("tag", image, f"{name}/mine")
        refused = rootless("push", f"{name}/mine", environ=home)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[0].startswith(f"rootless: cannot push {name}/mine")
        assert f"rootless login {name}" in refused.stderr
        wrong = rootless("login", "-u", "user", "-p", "wrong", name, environ=home)
        assert wrong.returncode == 1
        assert not config.exists()
        words = ("login", "-u", registry.USER, "--password-stdin", name)
        done = rootless(*words, input=registry.PASSWORD + "\n", environ=home)
        assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
        assert "stored unencrypted" in done.stderr
        rootless.ok("push", f"{name}/mine", environ=home)
        rootless.ok("rmi", f"{name}/mine")
        rootless.ok("pull", "-q", f"{name}/mine", environ=home)
        assert rootless.ok("login", name, environ=home).startswith("Authenticating with existing")
        assert rootless.ok("logout", name, environ=home).startswith("Removing login credentials")
        assert rootless("pull", f"{name}/mine", environ=home).returncode == 1


@pytest.mark.needs("openssl")
def test_registry_with_a_certificate_of_its_own(
    rootless: CommandLine, tmp_path: Path, image: str
) -> None:
    pair = certificate(tmp_path, "ca", "127.0.0.1")
    with registry.serving(tmp_path, tls=pair) as name:
        rootless.ok("tag", image, f"{name}/mine")
        rootless.ok("push", f"{name}/mine")  # this machine itself needs no certificate
        rootless.ok("rmi", f"{name}/mine")
        rootless.ok("pull", "-q", f"{name}/mine")


# -- podman -----------------------------------------------------------------------------------------


class Podman:
    """podman with a store of its own in a directory; `run` has to be a short path."""

    def __init__(self, directory: Path, run: str) -> None:
        directory.mkdir()
        home = {"HOME": str(directory), "XDG_RUNTIME_DIR": run}
        self._environ = {**os.environ, **home}
        self._command = [
            str(find_program("podman")), "--storage-driver=vfs", f"--root={directory}/root",
            f"--runroot={run}/c", "--cgroup-manager=cgroupfs",
        ]  # fmt: skip
        (directory / ".config/containers").mkdir(parents=True)
        policy = '{"default": [{"type": "insecureAcceptAnything"}]}'
        (directory / ".config/containers/policy.json").write_text(policy)

    def __call__(self, *words: str | Path) -> str:
        done = subprocess.run(
            [*self._command, *words],
            env=self._environ, check=False, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="pm") as run:
        made = Podman(tmp_path / "podman", run)
        yield made
        made("unshare", "rm", "-rf", tmp_path / "podman/root", f"{run}/c")
        made("system", "migrate")


@pytest.mark.needs("podman", "subids")
def test_podman_pulls_what_we_push_and_we_what_it_pushes(
    server: str, rootless: CommandLine, podman: Podman, tmp_path: Path
) -> None:
    (tmp_path / "root.tar").write_bytes(TOP)
    rootless.ok("import", "-c", "CMD hello", tmp_path / "root.tar", f"{server}/ours")
    rootless.ok("push", f"{server}/ours")
    podman("pull", "-q", "--tls-verify=false", f"{server}/ours")
    ours = rootless.ok("images", "-q", "--no-trunc", f"{server}/ours").strip()
    assert podman("images", "-q", "--no-trunc", f"{server}/ours").strip() == ours
    podman("tag", f"{server}/ours", f"{server}/theirs")
    podman("push", "-q", "--tls-verify=false", f"{server}/theirs")
    rootless.ok("rmi", f"{server}/ours")
    rootless.ok("pull", "-q", f"{server}/theirs")
    assert rootless.ok("images", "-q", "--no-trunc", f"{server}/theirs").strip() == ours
    rootless.ok("tag", f"{server}/theirs", f"{server}/again")
    rootless.ok("push", f"{server}/again")
    assert raw(f"{server}/again") == raw(f"{server}/theirs")


@pytest.mark.needs("podman", "subids")
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_podman_loads_what_we_save_and_we_what_it_saves(
    server: str, rootless: CommandLine, podman: Podman, tmp_path: Path, form: str
) -> None:
    name = f"{server}/from:gzip"
    rootless.ok("pull", "-q", name)
    image_id = rootless.ok("images", "-q", "--no-trunc").strip()
    rootless.ok("save", "--format", form, "-o", tmp_path / "ours.tar", name)
    podman("load", "-q", "-i", tmp_path / "ours.tar")
    assert podman("images", "-q", "--no-trunc", name).strip() == image_id
    theirs = tmp_path / "theirs.tar"
    podman("save", "-q", f"--format={form}-archive", "-o", theirs, name)
    rootless.ok("rmi", name)
    rootless.ok("load", "-i", theirs)
    assert rootless.ok("images", "-q", "--no-trunc", name).strip() == image_id


# -- archives ---------------------------------------------------------------------------------------


def test_saved_archive_is_read_by_skopeo_with_the_same_digest(
    server: str, rootless: CommandLine, tmp_path: Path
) -> None:
    names = [f"{server}/from:gzip", f"{server}/from:v2s2"]
    for name in names:
        rootless.ok("pull", "-q", name)
    archive = tmp_path / "saved.tar"
    rootless.ok("save", "-o", archive, names[0])
    target = tmp_path / "layout"
    registry.copy(f"oci-archive:{archive}:gzip", f"oci:{target}:x", "--preserve-digests")
    index = json.loads((target / "index.json").read_text())
    assert index["manifests"][0]["digest"] == digest(raw(names[0]))
    registry.copy(f"docker-archive:{archive}:{names[0]}", f"dir:{tmp_path}/dir")
    found = json.loads((tmp_path / "dir" / "manifest.json").read_text())
    assert found["config"]["digest"] == manifest(names[0])["config"]["digest"]


@pytest.mark.needs("umoci")
def test_saved_layout_is_understood_by_umoci(
    server: str, rootless: CommandLine, tmp_path: Path
) -> None:
    name = f"{server}/from:gzip"
    rootless.ok("pull", "-q", name)
    rootless.ok("save", "--format", "oci", "-o", tmp_path / "saved.tar", name)
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-C", layout, "-xf", tmp_path / "saved.tar"], check=True)
    done = subprocess.run(
        ["umoci", "stat", "--json", "--image", f"{layout}:gzip"],
        check=True, capture_output=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    found = manifest(name)
    there = [each["layer"]["digest"] for each in told["history"] if each["layer"]]
    assert there == [each["digest"] for each in found["layers"]]


def test_saved_archive_has_each_layer_once_and_the_same_bytes(
    server: str, rootless: CommandLine, tmp_path: Path
) -> None:
    name = f"{server}/from:gzip"
    rootless.ok("pull", "-q", name)
    rootless.ok("tag", name, "other:1")
    (tmp_path / "base.tar").write_bytes(BASE)
    rootless.ok("import", tmp_path / "base.tar", "third")
    sums = set()
    for number in range(2):
        path = tmp_path / f"{number}.tar"
        rootless.ok("save", "-o", path, name, "other:1", "third")
        sums.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(sums) == 1
    with tarfile.open(path) as archive:
        members = archive.getnames()
        listing = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        repositories = json.load(archive.extractfile("repositories"))  # type: ignore[arg-type]
        assert {entry.mtime for entry in archive} == {0}
    assert len(members) == len(set(members))
    assert [entry["RepoTags"] for entry in listing] == [[name, "other:1"], ["third:latest"]]
    assert set(repositories) == {f"{server}/from", "other", "third"}
    rootless.ok("rmi", "-f", name, "third")
    assert rootless.ok("load", "-q", "-i", path).splitlines() == [
        f"Loaded image: {each}" for each in (name, "other:1", "third:latest")
    ]


def test_save_of_a_repository_is_every_tag_of_it(rootless: CommandLine, image: str) -> None:
    rootless.ok("tag", image, "many:a")
    rootless.ok("tag", image, "many:b")
    out = subprocess.run(
        [*_program(), "save", "many"],
        env=rootless.environ, check=True, capture_output=True, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    assert b'"RepoTags":["many:a","many:b"]' in out


def _program() -> list[str]:
    from tests.lib.command_line import program

    return program()
