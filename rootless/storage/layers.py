# SPDX-License-Identifier: Apache-2.0
"""Layers: archives unpacked once into directories that containers share, named by diff id.

A layer's directory appears complete, by rename, or not at all. Archives are read by a worker process
that is root of a user namespace and chrooted into the tree it builds.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, cast

from rootless import configuration
from rootless.errors import NoSpace, NotFound, RootlessError
from rootless.linux.sync import syncfs
from rootless.oci import digest as digests
from rootless.oci import document
from rootless.runtime import userns
from rootless.storage import locks, staging, tar

if TYPE_CHECKING:
    from types import TracebackType

    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.runtime.userns import Worker
    from rootless.storage.worker import LayerInfo

RESERVE = 64 << 20  # bytes of the disk that unpacking leaves free
_TREE, _RECORD = "tree", "layer.json"
_BUFFER = 1 << 20

# One at a time: a process forked between another's socketpair and close would keep that end open.
_starting = threading.Lock()


class Layers:
    """The unpacked layers of one store whose owners are written under one id map."""

    def __init__(self, paths: Paths, id_map: IdMap) -> None:
        self._paths = paths
        self._id_map = id_map

    def has(self, diff_id: str) -> bool:
        """True when the layer is unpacked, completely."""
        return os.path.isdir(self._path(diff_id))

    def tree(self, diff_id: str) -> str:
        """The directory to mount; raises NotFound."""
        path = f"{self._path(diff_id)}/{_TREE}"
        if not os.path.isdir(path):
            raise _missing(diff_id)
        return path

    def info(self, diff_id: str) -> LayerInfo:
        """Its layer.json; raises NotFound."""
        try:
            return cast("LayerInfo", document.load(f"{self._path(diff_id)}/{_RECORD}"))
        except FileNotFoundError:
            raise _missing(diff_id) from None

    def list(self) -> list[str]:
        """The diff ids of all layers, in order."""
        algorithms = {length: name for name, length in digests.HEX_LENGTHS.items()}
        try:
            names = sorted(os.listdir(f"{self._paths.layers}/{self._id_map.key}"))
        except FileNotFoundError:
            return []
        return [f"{algorithms[len(name)]}:{name}" for name in names if len(name) in algorithms]

    def unpacker(self, diff_id: str | None = None, *, size_hint: int | None = None) -> Unpacker:
        """A context manager that turns a layer's bytes, compressed or not, into a layer.

        `diff_id` None takes whatever comes and finds the diff id out. `size_hint` is the number of
        compressed bytes, to refuse at once what cannot fit. Entering waits while another process
        unpacks the same layer.
        """
        checked = digests.parse(diff_id) if diff_id else None
        return Unpacker(self._paths, self._id_map, checked, size_hint)

    def remove(self, diff_id: str) -> None:
        """Delete a layer that nothing uses; a missing one is fine."""
        path = self._path(diff_id)
        with _lock(self._paths, self._id_map, diff_id):
            grave, fd = staging.make_directory(self._paths, "removed")
            try:
                os.rename(path, f"{grave}/{_TREE}")
            except FileNotFoundError:
                pass
            finally:
                userns.remove_tree(self._id_map, grave)
                os.close(fd)

    def _path(self, diff_id: str) -> str:
        return self._paths.layer(self._id_map.key, digests.parse(diff_id))


class Unpacker:
    """Takes a layer's bytes; `finish` makes them a layer, leaving without it leaves nothing.

    When the layer is there already, because another process unpacked it meanwhile, the bytes are
    ignored.
    """

    def __init__(
        self, paths: Paths, id_map: IdMap, diff_id: digests.Digest | None, size_hint: int | None
    ) -> None:
        self._paths = paths
        self._id_map = id_map
        self._layers = Layers(paths, id_map)
        self._diff_id = diff_id
        self._size_hint = size_hint or 0
        self._lock: locks.Lock | None = None
        self._staging = ""
        self._held = -1
        self._pipe: socket.socket | None = None
        self._worker: Worker | None = None

    def __enter__(self) -> Unpacker:
        try:
            if self._diff_id:
                self._lock = _lock(self._paths, self._id_map, self._diff_id)
                self._lock.__enter__()
                if self._layers.has(self._diff_id):
                    return self
            self._start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clean()

    @property
    def is_needed(self) -> bool:
        """False when another process has unpacked the layer meanwhile."""
        return self._pipe is not None

    def write(self, data: bytes | memoryview) -> None:
        """Pass bytes on; raises what the worker found wrong with earlier ones."""
        if self._pipe is None:
            return
        try:
            self._pipe.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._answer()
            raise RootlessError(f"cannot unpack {self._name()}: the worker left early") from None

    def finish(self) -> LayerInfo:
        """Wait for the worker, check the diff id, and give the layer its name: its layer.json.

        Raises DigestMismatch, Invalid, NoSpace.
        """
        if self._pipe is None:
            assert self._diff_id is not None
            return self._layers.info(self._diff_id)
        self._pipe.shutdown(socket.SHUT_WR)
        info = self._answer()
        digests.check(self._diff_id or info["diff_id"], info["diff_id"], self._name())
        try:
            staging.write_file(f"{self._staging}/{_RECORD}", document.dumps(info))
            syncfs(self._held)  # one call for the data of all files
            if self._lock is None:
                self._lock = _lock(self._paths, self._id_map, info["diff_id"])
                self._lock.__enter__()
            if not self._layers.has(info["diff_id"]):
                self._commit(self._paths.layer(self._id_map.key, info["diff_id"]))
        except OSError as problem:
            raise staging.explained(problem, self._name()) from problem
        return info

    def _commit(self, target: str) -> None:
        directory = os.path.dirname(target)
        if not os.path.isdir(directory):
            os.makedirs(directory, 0o700, exist_ok=True)
            staging.sync_directory(os.path.dirname(directory))
        os.rename(self._staging, target)
        self._staging = ""
        staging.sync_directory(directory)

    def _name(self) -> str:
        return f"layer {self._diff_id}" if self._diff_id else "the layer"

    def _start(self) -> None:
        space = os.statvfs(self._paths.tmp)
        settings = configuration.load()
        budget = space.f_bavail * space.f_frsize - RESERVE
        if self._size_hint > budget:
            raise NoSpace(
                f"cannot unpack {self._name()}: it has {self._size_hint} bytes,"
                f" and {max(budget, 0)} are free",
                hint="free some space: rootless rmi IMAGE",
            )
        self._staging, self._held = staging.make_directory(self._paths, "layer")
        tree = _make_tree(f"{self._staging}/{_TREE}")
        algorithm = self._diff_id.algorithm if self._diff_id else "sha256"
        from rootless.storage import worker  # and with it every decompressor

        try:
            with _starting:
                self._pipe, reading = socket.socketpair()
                self._pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                limits = worker.Limits(
                    min(budget, settings.limit("bytes", budget)),
                    settings.limit("entries", tar.MAX_ENTRIES),
                    settings.limit("depth", tar.MAX_DEPTH),
                )
                job = worker.Job(reading, tree, self._id_map, limits, algorithm, self._name())
                try:
                    self._worker = userns.spawn(self._id_map, job.run)
                finally:
                    reading.close()
        finally:
            os.close(tree)

    def _answer(self) -> LayerInfo:
        assert self._worker is not None
        return cast("LayerInfo", document.loads(self._worker.wait(), "a worker's answer"))

    def _clean(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._worker is not None:
            self._worker.kill()
        if self._staging:
            userns.remove_tree(self._id_map, self._staging)
        if self._held >= 0:
            os.close(self._held)
        if self._lock is not None:
            self._lock.release()


def _make_tree(path: str) -> int:
    """The empty tree of a layer, open. What its parents would pass on to its files is taken off."""
    os.mkdir(path, 0o755)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchown(fd, -1, os.getegid())
    os.fchmod(fd, 0o755)
    try:
        os.removexattr(fd, "system.posix_acl_default")
    except OSError:
        pass  # there is none, or the file system has none
    return fd


def _lock(paths: Paths, id_map: IdMap, diff_id: str) -> locks.Lock:
    # A part of the digest keeps the file's name short; two layers that share it take turns.
    encoded = diff_id.partition(":")[2]
    return locks.Lock(paths.lock("layer", f"{id_map.key}-{encoded[:32]}"))


def _missing(diff_id: str) -> NotFound:
    return NotFound(f"no such layer: {diff_id}", hint="rootless pull IMAGE unpacks it again")
