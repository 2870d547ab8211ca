# SPDX-License-Identifier: Apache-2.0
"""Layers, OCI layouts and docker archives made by hand, as tests need them: right or wrong."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from tests.lib.fake_registry import digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "org.opencontainers.image.ref.name"


def layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed layer with those files, their directories first."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        parents = {str(parent) for name in files for parent in Path(name).parents}
        for name in sorted(parents - {"."}):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def compress(data: bytes, how: str) -> tuple[bytes, str]:
    """A layer and its media type; `how` is none, gzip or zstd."""
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0), LAYER + "+gzip"
    if how == "zstd":
        return zstandard.compress(data), LAYER + "+zstd"
    return data, LAYER


def config(layers: Sequence[bytes], **changes: Any) -> bytes:
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        **changes,
    }
    return json.dumps(document).encode()


class Layout:
    """An OCI layout in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifests: list[dict[str, Any]] = []
        (directory / "blobs" / "sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.write_index()

    def add_blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        name = digest(data)
        (self.directory / "blobs" / "sha256" / name[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def add_manifest(self, *layers: bytes, how: str = "gzip", **changes: Any) -> dict[str, Any]:
        """An image of uncompressed layers, compressed as asked; gives its descriptor."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_blob(config(layers, **changes), CONFIG),
            "layers": [self.add_blob(*compress(each, how)) for each in layers],
        }
        return self.add_blob(json.dumps(manifest).encode(), MANIFEST)

    def add_index(self, *children: dict[str, Any]) -> dict[str, Any]:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(children)}
        return self.add_blob(json.dumps(index).encode(), INDEX)

    def name(self, descriptor: dict[str, Any], name: str) -> None:
        self.manifests.append({**descriptor, "annotations": {NAME: name}})
        self.write_index()

    def write_index(self) -> None:
        index = {"schemaVersion": 2, "manifests": self.manifests}
        (self.directory / "index.json").write_text(json.dumps(index))

    def tar(self, path: Path) -> Path:
        with tarfile.open(path, "w") as archive:
            archive.add(self.directory, ".")
        return path


def docker_archive(
    path: Path,
    listing: Any,
    members: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
) -> Path:
    """A docker archive with any content; `listing` becomes manifest.json unless it is None."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        documents = {} if listing is None else {"manifest.json": json.dumps(listing).encode()}
        for name, data in {**members, **documents}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path
