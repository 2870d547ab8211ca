# SPDX-License-Identifier: Apache-2.0
"""The file system of a container as an archive: what its command would see, without mounts and volumes.

The layers are put together in a namespace of their own, over a writable layer that is thrown away:
the container may run meanwhile and is not touched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.engine import containers
from rootless.engine.unpack import unpack_missing
from rootless.images import records, recovery
from rootless.runtime import idmap, userns
from rootless.runtime.rootfs import Stage
from rootless.storage import pack, staging
from rootless.storage import union as unions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.engine.containers import Container
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def export(paths: Paths, name: str) -> Iterator[bytes]:
    """The archive of a container's file system, in pieces; the same tree gives the same bytes.

    Raises NotFound, HostUnable, and what packing raises.
    """
    recovery.open_store(paths)
    container = containers.get(paths, name)
    record = container.record
    id_map = idmap.from_key(record["id_map"]) or idmap.default()
    driver = record["driver"]
    if driver == "directory":
        yield from pack.packed(id_map, record.get("rootfs") or os.path.abspath(container.image))
    elif driver == "copy":
        yield from pack.packed(id_map, paths.container(container.id) + "/rootfs")
    else:
        layers = [paths.container(container.id) + "/upper", *_lowers(paths, container, id_map)]
        yield from _union(paths, id_map, driver, layers)


def _lowers(paths: Paths, container: Container, id_map: IdMap) -> list[str]:
    """The read-only layers of a container, the uppermost first."""
    rootfs = container.record.get("rootfs")
    if rootfs:
        return [rootfs]
    image = records.get(paths, container.image_id)
    if "lower" in image:
        return list(image["lower"])
    unpack_missing(paths, image, id_map)
    return [
        paths.layer(id_map.key, layer["diff_id"]) + "/tree" for layer in reversed(image["layers"])
    ]


def _union(paths: Paths, id_map: IdMap, driver: str, layers: list[str]) -> Iterator[bytes]:
    place, held = staging.make_directory(paths, "export")
    try:
        for name in ("upper", "work", "merged"):
            os.mkdir(f"{place}/{name}", 0o755)
        union = unions.union(driver, "export", layers, place, throwaway=True)

        def opened() -> int:
            if union.server is not None:
                union.server.start()
            stage = Stage()
            union.step.execute(stage)
            # The descriptor of a mount is for paths only; this one is for reading.
            return os.open(f"/proc/self/fd/{stage.root}", _DIRECTORY)

        yield from pack.packed_by(id_map, opened)
    finally:
        userns.remove_tree(id_map, place)
        os.close(held)
