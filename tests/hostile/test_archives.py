# SPDX-License-Identifier: Apache-2.0
"""Archives made to confuse `load` and `import`: each is refused in one sentence and leaves nothing."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import images
from rootless.errors import Invalid, NotFound, RootlessError
from rootless.images import records
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage.layers import Layers
from tests.lib import archives
from tests.lib.fake_registry import digest

pytestmark = pytest.mark.needs("userns")

BASE = archives.layer({"bin/base": b"base"})
CONFIG = archives.config([BASE])
ENTRY = {"Config": "c.json", "RepoTags": ["image:1"], "Layers": ["l.tar"]}
MEMBERS = {"c.json": CONFIG, "l.tar": BASE}


def refuse(paths: Paths, source: Path, kind: type[RootlessError], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        images.load(paths, str(source))
    assert raised.value.message.isprintable()
    assert records.list_images(paths) == []
    assert records.list_references(paths) == []
    assert os.listdir(paths.tmp) == []
    blobs = Path(paths.blobs, "sha256")
    assert not blobs.exists() or os.listdir(blobs) == []


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (None, "neither a docker archive nor an OCI layout"),
        ({}, "expected a list"),
        (["x"], "expected an object"),
        ([{**ENTRY, "Config": 5}], "Config: expected a string"),
        ([{**ENTRY, "Layers": "l.tar"}], "Layers: expected a list of strings"),
        ([{**ENTRY, "Layers": [7]}], "Layers: expected a list of strings"),
        ([{**ENTRY, "Layers": []}], "1 diff_ids for 0 layers"),
        ([{**ENTRY, "RepoTags": [None]}], "RepoTags: expected a list of strings"),
        ([{**ENTRY, "RepoTags": ["UPPER:1"]}], "lower-case"),
        ([{**ENTRY, "Config": "../../etc/passwd"}], "leaves the archive"),
        ([{**ENTRY, "Config": "/etc/passwd"}], "leaves the archive"),
    ],
)
def test_docker_listing_that_is_wrong_is_refused(
    paths: Paths, tmp_path: Path, listing: Any, words: str
) -> None:
    archive = archives.docker_archive(tmp_path / "a.tar", listing, MEMBERS)
    refuse(paths, archive, Invalid, words)


def test_docker_listing_too_large_is_refused(paths: Paths, tmp_path: Path) -> None:
    archive = archives.docker_archive(tmp_path / "a.tar", [ENTRY] * 70000, MEMBERS)
    refuse(paths, archive, Invalid, "manifest.json is larger than 4194304 bytes")


def test_docker_layer_that_is_not_there_is_not_found(paths: Paths, tmp_path: Path) -> None:
    archive = archives.docker_archive(tmp_path / "a.tar", [ENTRY], {"c.json": CONFIG})
    refuse(paths, archive, NotFound, "'l.tar' is not in it")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../../../etc/passwd", "leaves the archive"),
        ("/etc/passwd", "leaves the archive"),
        ("l.tar", "a link to itself"),
        ("nothing", "is not in it"),
    ],
)
def test_docker_layer_link_out_of_the_archive_is_refused(
    paths: Paths, tmp_path: Path, target: str, words: str
) -> None:
    archive = archives.docker_archive(
        tmp_path / "a.tar", [ENTRY], {"c.json": CONFIG}, {"l.tar": target}
    )
    refuse(paths, archive, RootlessError, words)


def test_docker_layer_with_other_content_is_refused(paths: Paths, tmp_path: Path) -> None:
    members = {**MEMBERS, "l.tar": archives.layer({"bin/base": b"evil"})}
    archive = archives.docker_archive(tmp_path / "a.tar", [ENTRY], members)
    refuse(paths, archive, Invalid, "not what its digest promises")
    assert not Layers(paths, idmap.default()).has(digest(BASE))


def test_member_twice_with_other_content_is_refused(paths: Paths, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as writer:
        for data in (b"one", b"two"):
            entry = tarfile.TarInfo("l.tar")
            entry.size = len(data)
            writer.addfile(entry, io.BytesIO(data))
    refuse(paths, archive, Invalid, "l.tar is in it twice")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
def test_member_that_leaves_the_archive_is_refused(paths: Paths, tmp_path: Path, name: str) -> None:
    archive = archives.docker_archive(tmp_path / "a.tar", [ENTRY], {**MEMBERS, name: b""})
    refuse(paths, archive, Invalid, "path escapes root")


@pytest.mark.parametrize("damage", [b"", b"no archive", BASE[:700], b"\x1f\x8b\x08" + b"x" * 50])
def test_what_is_no_archive_is_refused(paths: Paths, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(damage)
    refuse(paths, tmp_path / "a.tar", Invalid, ".")


# -- OCI layouts --------------------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path) -> archives.Layout:
    made = archives.Layout(tmp_path / "layout")
    made.name(made.add_manifest(BASE), "image:1")
    return made


def blob_file(layout: archives.Layout, name: str) -> Path:
    return layout.directory / "blobs" / "sha256" / name.removeprefix("sha256:")


@pytest.mark.parametrize("version", ["9", "2.0.0", None, 1])
def test_layout_of_unknown_version_is_refused(
    paths: Paths, layout: archives.Layout, version: Any
) -> None:
    (layout.directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": version}))
    refuse(paths, layout.directory, Invalid, "an OCI layout of version")


def test_layout_without_the_blob_it_names_is_not_found(
    paths: Paths, layout: archives.Layout
) -> None:
    blob_file(layout, layout.manifests[0]["digest"]).unlink()
    refuse(paths, layout.directory, NotFound, "is not in it")


def test_layout_with_changed_blob_is_refused(paths: Paths, layout: archives.Layout) -> None:
    path = blob_file(layout, layout.manifests[0]["digest"])
    path.write_bytes(path.read_bytes().replace(b"gzip", b"zstd"))
    refuse(paths, layout.directory, Invalid, "not what its digest promises")


def test_layout_with_linked_blob_is_refused(
    paths: Paths, layout: archives.Layout, tmp_path: Path
) -> None:
    path = blob_file(layout, layout.manifests[0]["digest"])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refuse(paths, layout.directory, RootlessError, "link")


def test_layout_with_linked_directory_is_refused(
    paths: Paths, layout: archives.Layout, tmp_path: Path
) -> None:
    (layout.directory / "blobs").rename(tmp_path / "elsewhere")
    (layout.directory / "blobs").symlink_to(tmp_path / "elsewhere")
    refuse(paths, layout.directory, RootlessError, "link")


@pytest.mark.parametrize("name", ["sha256:../../x", "sha256:ABC", "md5:" + "0" * 32, "sha512:00"])
def test_layout_with_wrong_digest_is_refused(
    paths: Paths, layout: archives.Layout, name: str
) -> None:
    layout.manifests[0]["digest"] = name
    layout.write_index()
    refuse(paths, layout.directory, Invalid, "digest")


def test_layout_with_wrong_size_is_refused(paths: Paths, layout: archives.Layout) -> None:
    layout.manifests[0]["size"] += 1
    layout.write_index()
    refuse(paths, layout.directory, Invalid, "bytes, not")


def test_layout_of_something_else_is_refused(paths: Paths, layout: archives.Layout) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": archives.MANIFEST,
        "artifactType": "application/vnd.example.chart",
        "config": layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [],
    }
    layout.manifests.clear()
    layout.name(layout.add_blob(json.dumps(manifest).encode(), archives.MANIFEST), "image:1")
    refuse(paths, layout.directory, Invalid, "not a container image")


def test_layout_with_a_pipe_for_a_blob_does_not_wait(paths: Paths, layout: archives.Layout) -> None:
    os.mkfifo(blob_file(layout, "0" * 64))
    images.load(paths, str(layout.directory))


# -- root file systems --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"no archive", BASE[:700], b"\x28\xb5\x2f\xfdx"])
def test_import_of_what_is_no_archive_leaves_nothing(
    paths: Paths, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(Invalid):
        images.import_(paths, str(tmp_path / "a.tar"))
    assert records.list_images(paths) == []
    assert os.listdir(paths.tmp) == []
    blobs = Path(paths.blobs, "sha256")
    assert not blobs.exists() or os.listdir(blobs) == []
