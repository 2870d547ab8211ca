# SPDX-License-Identifier: Apache-2.0
"""Makes the skeleton of the embedded image `host`; `images.host` says what goes into it.

Reads the machine, writes only below the store. Files are copied when everybody may read them; the
copies belong to the caller.
"""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.errors import Invalid
from rootless.images import host, space
from rootless.linux.sync import syncfs
from rootless.oci import document, platform
from rootless.runtime import idmap, userns
from rootless.storage import locks, staging

if TYPE_CHECKING:
    from rootless.paths import Paths

MAX_FILE = 4 << 20
MAX_FILES = 10_000
MAX_DEPTH = 8

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BIND = ("rbind", "ro", "nosuid", "nodev", "rprivate")
_DIRECTORIES = {
    **dict.fromkeys(
        [
            "dev",
            "etc",
            "home",
            "media",
            "mnt",
            "opt",
            "proc",
            "run",
            "srv",
            "sys",
            "usr",
            "var",
            "var/cache",
            "var/lib",
            "var/log",
            "var/spool",
        ],
        0o755,
    ),
    "root": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}


def build(paths: Paths, fingerprint: str) -> None:
    """Make the skeleton for this fingerprint and let `current` name it.

    Of several at once one builds, the others wait and find it done.
    """
    with (
        locks.Lock(paths.lock("host", "image")),
        space.reporting_full(paths.data, "make the image host"),
    ):
        known = host.current(paths)
        if known is not None and known["fingerprint"] == fingerprint:
            return
        os.makedirs(paths.host_image, 0o700, exist_ok=True)
        directory, held = staging.make_directory(paths, "host")
        try:
            record = _fill(directory, held, fingerprint)
            _publish(paths, directory, record)
        except BaseException:
            userns.remove_tree(idmap.host(), directory)
            raise
        finally:
            os.close(held)
        _forget_unused(paths, {record["id"], known["id"] if known else ""})


def _fill(directory: str, held: int, fingerprint: str) -> dict[str, Any]:
    """Write tree/ and record.json into a staging directory; returns the record."""
    tree = directory + "/tree"
    os.mkdir(tree)
    os.chmod(tree, 0o755)
    for name, mode in _DIRECTORIES.items():
        _make_directory(f"{tree}/{name}", mode)
    for name, target in _LINKS.items():
        os.symlink(target, f"{tree}/{name}")
    mounts = _userland(tree)
    copied = _Copy("/etc", tree + "/etc")
    for name in host.public_paths():
        copied.copy(name)
    record = _record(fingerprint, mounts, copied.size)
    syncfs(held)  # hundreds of small files: one flush in place of an fsync for each
    staging.write_file(directory + "/record.json", document.dumps(record))
    return record


def _userland(tree: str) -> list[dict[str, Any]]:
    """The links /bin, /lib ... as this machine has them; what is a directory becomes a bind mount."""
    mounts = []
    for path in host.USERLAND:
        if os.path.islink(path):
            os.symlink(os.readlink(path), tree + path)
        elif os.path.isdir(path):
            os.makedirs(tree + path, 0o755, exist_ok=True)
            mounts.append(
                {"destination": path, "type": "bind", "source": path, "options": list(_BIND)}
            )
    return mounts


def _record(fingerprint: str, mounts: list[dict[str, Any]], size: int) -> dict[str, Any]:
    shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    body: dict[str, Any] = {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "platform": platform.host().as_dict(),
        "config": {"Env": [_PATH], "Cmd": [shell], "WorkingDir": "/"},
        "manifest": None,
        "layers": [],
        "size": size,
        "host": True,
        "mounts": mounts,
        "fingerprint": fingerprint,
    }
    return {"id": "sha256:" + hashlib.sha256(document.dumps(body)).hexdigest(), **body}


def _publish(paths: Paths, directory: str, record: dict[str, Any]) -> None:
    name = host.key(record["id"])
    os.rename(directory, f"{paths.host_image}/{name}")
    link = f"{paths.host_image}/next"  # left by a killed process at most; the lock is held
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(name, link)
    os.rename(link, f"{paths.host_image}/current")
    staging.sync_directory(paths.host_image)


def _forget_unused(paths: Paths, kept: set[str]) -> None:
    """Delete skeletons no container has for its root: a running one keeps the one it started with."""
    for name in os.listdir(paths.containers):
        try:
            kept.add(document.load(paths.container_record(name))["image_id"])
        except (OSError, Invalid, KeyError):
            continue
    names = {host.key(image_id) for image_id in kept}
    for name in os.listdir(paths.host_image):
        path = f"{paths.host_image}/{name}"
        if name not in names and not os.path.islink(path):
            userns.remove_tree(idmap.host(), path)


class _Copy:
    """Copies public files from one directory to another."""

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        self._count = 0
        self.size = 0

    def copy(self, name: str, depth: int = 0) -> None:
        """A file, a link as it is, or a directory with its content; what is not public is left out."""
        source, target = f"{self._source}/{name}", f"{self._target}/{name}"
        self._count += 1
        if self._count > MAX_FILES or depth > MAX_DEPTH:
            log.warning("host.left_out", path=source, reason="too many files")
            return
        try:
            found = os.lstat(source)
            self._make_parent(name)
            if stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(source), target)
            elif stat.S_ISDIR(found.st_mode) and found.st_mode & 0o005 == 0o005:
                _make_directory(target, 0o755)
                for child in sorted(os.listdir(source)):
                    self.copy(f"{name}/{child}", depth + 1)
            elif stat.S_ISREG(found.st_mode):
                self._copy_file(source, target)
        except (PermissionError, FileNotFoundError, FileExistsError) as problem:
            log.debug("host.left_out", path=source, reason=str(problem))

    def _make_parent(self, name: str) -> None:
        parent = os.path.dirname(name)
        if parent:
            os.makedirs(f"{self._target}/{parent}", 0o755, exist_ok=True)

    def _copy_file(self, source: str, target: str) -> None:
        # O_NONBLOCK and a second look: it may have become a pipe, or a private file, meanwhile.
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as reader:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IROTH:
                return
            data = reader.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            log.debug("host.left_out", path=source, reason="too large")
            return
        with open(target, "xb", buffering=0) as writer:
            writer.write(data)
            os.fchmod(writer.fileno(), 0o755 if found.st_mode & 0o111 else 0o644)
            os.utime(writer.fileno(), ns=(found.st_mtime_ns, found.st_mtime_ns))
        self.size += len(data)


def _make_directory(path: str, mode: int) -> None:
    """mkdir with exactly that mode, whatever the umask."""
    os.mkdir(path)
    os.chmod(path, mode)
