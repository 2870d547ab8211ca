# SPDX-License-Identifier: Apache-2.0
"""The images that are measured, made from nothing and always the same: OCI layouts on disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.lib.abilities import find_program

FILE_COUNT = 10_000
TOTAL_SIZE = 200_000_000
LAYER_COUNT = 4


def small(directory: Path) -> Path:
    """One layer with busybox and a link to it called `true`."""
    busybox = Path(str(find_program("busybox"))).read_bytes()
    return _layout(directory, [_tar([("bin/busybox", busybox)], links=[("bin/true", "busybox")])])


def large(directory: Path) -> Path:
    """200 MB in 10,000 files over four layers; about half of it is gone when compressed."""
    each = FILE_COUNT // LAYER_COUNT
    layers = [_tar(_files(range(first, first + each))) for first in range(0, FILE_COUNT, each)]
    return _layout(directory, layers)


def _files(numbers: range) -> Iterator[tuple[str, bytes]]:
    """Files of very different sizes, as in a distribution, half of whose bytes repeat."""
    source = random.Random(numbers.start)
    weights = [source.paretovariate(1.2) for _ in numbers]
    scale = TOTAL_SIZE / LAYER_COUNT / sum(weights)
    for number, weight in zip(numbers, weights, strict=True):
        half = int(weight * scale) // 2
        noise = source.randbytes(half)
        yield (
            f"usr/share/bench/{number % 100:02}/{number:05}",
            noise + (b"rootless " * (half // 9 + 1)),
        )


def _tar(files: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]],
         links: list[tuple[str, str]] | None = None) -> bytes:  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links or []:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def _layout(directory: Path, tars: list[bytes]) -> Path:
    """An OCI image layout with one image, `latest`, of these layers."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def store(content: bytes, media_type: str) -> dict[str, object]:
        encoded = hashlib.sha256(content).hexdigest()
        (blobs / encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}

    vendor = "application/vnd.oci.image"
    layers = [store(gzip.compress(tar, 6, mtime=0), f"{vendor}.layer.v1.tar+gzip") for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["true"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{vendor}.manifest.v1+json",
        "config": store(json.dumps(config).encode(), f"{vendor}.config.v1+json"),
        "layers": layers,
    }
    top = store(json.dumps(manifest).encode(), f"{vendor}.manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory
