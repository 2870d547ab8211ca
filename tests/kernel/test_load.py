# SPDX-License-Identifier: Apache-2.0
"""Loading archives of skopeo and podman and ones made by hand, and importing root file systems."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from rootless.engine import images
from rootless.errors import NotFound, UsageError
from rootless.images import records
from rootless.oci import platform, reference
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage.layers import Layers
from tests.lib import archives, registry
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import digest

pytestmark = pytest.mark.needs("userns")

BASE = archives.layer({"bin/base": b"base"})
TOP = archives.layer({"bin/top": b"top"})
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.fixture
def layout(tmp_path: Path) -> archives.Layout:
    made = archives.Layout(tmp_path / "layout")
    made.name(made.add_manifest(BASE, TOP), "example.org/image:1")
    return made


def is_whole(paths: Paths, name: str, *layers: bytes) -> bool:
    record = records.get(paths, name)
    unpacked = Layers(paths, idmap.default())
    return [each["diff_id"] for each in record["layers"]] == [digest(each) for each in layers] and (
        all(unpacked.has(digest(each)) for each in layers)
    )


def garbage(paths: Paths) -> set[str]:
    """Blobs in the store that no image has."""
    used: set[str] = set()
    for record in records.list_images(paths):
        used |= {record["id"], record["manifest"]["digest"]}
        used |= {each["digest"] for each in record["layers"]}
    return {f"sha256:{name}" for name in os.listdir(paths.blobs + "/sha256")} - used


@pytest.mark.parametrize("how", ["none", "gzip", "zstd"])
def test_oci_archive_is_loaded(
    paths: Paths, layout: archives.Layout, tmp_path: Path, how: str
) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(COMPRESS[how](layout.tar(tmp_path / "plain.tar").read_bytes()))
    (loaded,) = images.load(paths, str(archive))
    assert loaded.name == "example.org/image:1"
    assert is_whole(paths, "example.org/image:1", BASE, TOP)
    assert images.inspect(paths, loaded.name)["RepoDigests"] == [
        f"example.org/image@{layout.manifests[0]['digest']}"
    ]
    assert garbage(paths) == set()


def test_oci_directory_is_loaded(paths: Paths, layout: archives.Layout) -> None:
    images.load(paths, str(layout.directory))
    assert is_whole(paths, "example.org/image:1", BASE, TOP)


def test_archive_on_standard_input_is_loaded(
    rootless: CommandLine, layout: archives.Layout, tmp_path: Path
) -> None:
    archive = layout.tar(tmp_path / "plain.tar")
    with archive.open("rb") as stream:
        process = rootless.start("load", stdin=stream)
        assert process.communicate()[0] == "Loaded image: example.org/image:1\n"
    assert is_whole(rootless.paths, "example.org/image:1", BASE, TOP)


def test_several_images_and_one_without_name_are_loaded(
    rootless: CommandLine, layout: archives.Layout
) -> None:
    layout.name(layout.add_manifest(TOP), "example.org/image:2")
    nameless = layout.add_manifest(BASE)
    layout.manifests.append(nameless)
    layout.write_index()
    lines = rootless.ok("load", "-i", str(layout.directory)).splitlines()
    assert lines[:2] == ["Loaded image: example.org/image:1", "Loaded image: example.org/image:2"]
    assert lines[2].startswith("Loaded image ID: sha256:")


def test_image_for_the_platform_is_loaded_and_the_other_left(
    paths: Paths, layout: archives.Layout
) -> None:
    arm = layout.add_manifest(TOP, architecture="arm64")
    amd = layout.add_manifest(BASE)
    both = layout.add_index(
        {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
        {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
    )
    layout.manifests.clear()
    layout.name(both, "example.org/both:1")
    images.load(paths, str(layout.directory), platform.parse("linux/arm64"))
    assert is_whole(paths, "example.org/both:1", TOP)
    assert garbage(paths) == set()


def test_docker_archive_with_linked_layer_is_loaded(paths: Paths, tmp_path: Path) -> None:
    """As docker before 25 wrote them: a layer that occurs twice is a link the second time."""
    config = archives.config([BASE, TOP, BASE])
    name = digest(config)[7:]
    archive = archives.docker_archive(
        tmp_path / "docker.tar",
        [
            {
                "Config": f"{name}.json",
                "RepoTags": ["image:1", "example.org/other:2"],
                "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
            }
        ],
        {f"{name}.json": config, "a/layer.tar": BASE, "b/layer.tar": TOP, "a/VERSION": b"1.0"},
        {"c/layer.tar": "../a/layer.tar"},
    )
    loaded = images.load(paths, str(archive))
    assert [each.name for each in loaded] == ["image:1", "example.org/other:2"]
    assert is_whole(paths, "image:1", BASE, TOP, BASE)
    assert records.get(paths, "image:1")["id"] == digest(config)
    assert garbage(paths) == set()


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archive_of_skopeo_is_loaded(
    paths: Paths, layout: archives.Layout, tmp_path: Path, kind: str
) -> None:
    archive = tmp_path / "skopeo.tar"
    source = f"oci:{layout.directory}:example.org/image:1"
    registry.copy(source, f"{kind}:{archive}:example.org/image:1")
    (loaded,) = images.load(paths, str(archive))
    assert loaded.name == "example.org/image:1"
    assert is_whole(paths, loaded.name, BASE, TOP)


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """The start of a podman command on a store of its own, in a short path: it insists."""
    directory = tempfile.mkdtemp(prefix="rl-")
    store = ["--root", f"{directory}/root", "--runroot", f"{directory}/run"]
    yield ["podman", *store, "--storage-driver", "vfs", "--log-level", "error"]
    subprocess.run(["podman", "unshare", "rm", "-rf", directory], check=False)


@pytest.mark.needs("podman", "subids")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir"])
def test_archive_of_podman_is_loaded(
    paths: Paths, layout: archives.Layout, tmp_path: Path, podman: list[str], kind: str
) -> None:
    def run(*words: str) -> str:
        done = subprocess.run([*podman, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    name = "example.org/image:1"
    archive = str(tmp_path / "saved")
    run("pull", "-q", f"oci:{layout.directory}:{name}")
    run("tag", run("images", "--format", "{{.Id}}", "--no-trunc"), name)
    run("save", "-q", "--format", kind, "-o", archive, name)
    (loaded, *_) = images.load(paths, archive)
    assert [each["diff_id"] for each in loaded.record["layers"]] == [digest(BASE), digest(TOP)]
    assert kind == "oci-dir" or loaded.name == name  # a directory keeps no name


# -- import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", list(COMPRESS))
def test_root_file_system_is_imported(paths: Paths, tmp_path: Path, how: str) -> None:
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(COMPRESS[how](BASE))
    record = images.import_(paths, str(archive), reference.parse("imported:1"))
    assert is_whole(paths, "imported:1", BASE)
    found = images.inspect(paths, record["id"])
    assert found["RepoTags"] == ["imported:1"]
    assert found["Comment"] == f"Imported from {archive}"
    assert garbage(paths) == set()


def test_import_applies_changes_and_prints_the_id(rootless: CommandLine, tmp_path: Path) -> None:
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(BASE)
    changes = [
        'CMD ["base", "-x"]',
        "ENTRYPOINT run it",
        "ENV A=1 B='two words'",
        "ENV A 3",
        "EXPOSE 80 53/udp",
        "LABEL a.b=c",
        "USER 1:1",
        "VOLUME /data",
        "WORKDIR /srv",
        "WORKDIR sub",
    ]
    flags = [word for change in changes for word in ("-c", change)]
    printed = rootless.ok("import", *flags, "-m", "by hand", str(archive), "changed")
    found = images.inspect(rootless.paths, "changed")
    assert printed == found["Id"] + "\n"
    assert found["Comment"] == "by hand"
    assert found["Config"] == {
        "Cmd": ["base", "-x"],
        "Entrypoint": ["/bin/sh", "-c", "run it"],
        "Env": ["A=3", "B=two words"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"a.b": "c"},
        "User": "1:1",
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv/sub",
    }


def test_import_from_standard_input(rootless: CommandLine, tmp_path: Path) -> None:
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(BASE)
    with archive.open("rb") as stream:
        process = rootless.start("import", "-", "piped", stdin=stream)
        assert process.communicate()[0].startswith("sha256:")
    assert is_whole(rootless.paths, "piped", BASE)


def test_import_of_a_missing_file_is_not_found(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        images.import_(paths, str(tmp_path / "nothing.tar"))


def test_import_with_wrong_change_reads_nothing(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown instruction"):
        images.import_(paths, str(tmp_path / "nothing.tar"), changes=["RUN true"])
