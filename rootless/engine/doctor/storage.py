# SPDX-License-Identifier: Apache-2.0
"""Probes of the file system that holds the store, and of the union file systems that work on it."""

from __future__ import annotations

import _signal
import errno
import os
import stat
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless.engine.doctor.probe import Host, Probe, Result, reason
from rootless.errors import RootlessError
from rootless.linux import mount
from rootless.paths import Paths
from rootless.runtime import idmap, userns
from rootless.storage import probe, staging

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = (
    "nfs",
    "nfs4",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "fuse.glusterfs",
    "cifs",
    "smb3",
    "9p",
    "afs",
    "pvfs2",
)
_GIB = 1 << 30


def nearest_directory(path: str) -> str:
    """`path`, or its closest ancestor that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


@contextmanager
def scratch(host: Host) -> Iterator[str]:
    """A directory on the store's file system, with lower, upper, work and merged; removed afterwards."""
    held = -1
    if os.path.isdir(host.paths.tmp):
        directory, held = staging.make_directory(host.paths, "doctor")
    else:
        base = nearest_directory(host.paths.data)
        directory = tempfile.mkdtemp(prefix=".rootless-doctor-", dir=base)
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{directory}/{name}")
        with open(directory + "/lower/file", "w", encoding="ascii") as file:
            file.write("lower")
        yield directory
    finally:
        userns.remove_tree(
            host.id_map if host.is_ok("user namespaces") else idmap.host(), directory
        )
        if held >= 0:
            os.close(held)


class Store(Probe):
    """The store's directory can be written, and by nobody else."""

    name = "store"
    topic = "storage"
    purpose = "images and containers"
    essential = True

    def examine(self, host: Host) -> Result:
        data = host.paths.data
        base = nearest_directory(data)
        elsewhere = "export ROOTLESS_ROOT=/a/directory/of/yours"
        try:
            with tempfile.TemporaryFile(dir=base) as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            return self.fail(f"cannot write in {base}: {reason(problem)}", elsewhere)
        found = os.stat(base)
        if base == data and found.st_uid == host.uid and found.st_mode & 0o077:
            return self.warn(
                f"{data} has mode {stat.S_IMODE(found.st_mode):04o}: others can look into it",
                f"chmod 700 {data}",
            )
        return self.ok(data if base == data else f"{data} (will be made)")


class FileSystem(Probe):
    """The kind of file system: a network file system knows neither subordinate ids nor overlay's upper layer."""

    name = "file system"
    topic = "storage"
    purpose = "owners, extended attributes and overlay in the store"

    def examine(self, host: Host) -> Result:
        base = nearest_directory(host.paths.data)
        kind, point = file_system_of(host, base)
        if kind in _SHARED:
            return self.warn(
                f"{kind} at {point}: slow for layers, and files of subordinate ids fail on most",
                f"export ROOTLESS_ROOT=/var/tmp/{host.user}-rootless    # or another local disk",
            )
        if kind in ("tmpfs", "ramfs"):
            return self.warn(
                f"{kind} at {point}: images take memory and are gone after a reboot",
                "export ROOTLESS_ROOT=/a/directory/on/disk",
            )
        if kind == "overlay":
            return self.warn(
                f"overlay at {point}: an overlay cannot be the upper layer of another",
                "mount a volume of the outer container at " + host.paths.data,
            )
        return self.ok(f"{kind} at {point}")


def file_system_of(host: Host, path: str) -> tuple[str, str]:
    """(type, mount point) of the file system that holds `path`, from proc_pid_mountinfo(5)."""
    path = os.path.realpath(path)
    best = ("unknown", "/")
    for line in (host.read("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[1]):  # the last of equals is mounted on top
            best = (right.split()[0], point)
    return best


class FreeSpace(Probe):
    """Bytes and inodes left where the store is."""

    name = "free space"
    topic = "storage"
    purpose = "images and containers"

    def examine(self, host: Host) -> Result:
        base = nearest_directory(host.paths.data)
        found = os.statvfs(base)
        space = found.f_bavail * found.f_frsize
        inodes = f", {found.f_favail} inodes" if found.f_files else ""
        text = f"{space / _GIB:.1f} GiB{inodes}"
        if space < _GIB:
            return self.warn(
                f"{text}: too little for most images",
                "rootless rmi IMAGE    # or free space otherwise",
            )
        if found.f_files and found.f_favail < 50_000:
            return self.warn(
                f"{text}: too few for most images",
                "rootless rmi IMAGE    # or remove files otherwise",
            )
        return self.ok(text)


class UserXattrs(Probe):
    """Extended attributes of the user namespace, in which an unprivileged overlay keeps its marks."""

    name = "user xattrs"
    topic = "storage"
    purpose = "overlay with userxattr, and the attributes of images"

    def examine(self, host: Host) -> Result:
        try:
            with scratch(host) as directory:
                os.setxattr(directory + "/lower/file", "user.rootless", b"y")
                os.getxattr(directory + "/lower/file", "user.rootless")
        except OSError as problem:
            return self.warn(
                f"not on this file system: {reason(problem)}",
                "export ROOTLESS_ROOT=/a/directory/on/ext4-or-xfs",
            )
        return self.ok("set one and read it back")


class Whiteout(Probe):
    """mknod(2) of the character device 0:0, the only one a user namespace may make (Linux 5.8)."""

    name = "whiteouts"
    topic = "storage"
    purpose = "deletions in unpacked layers"
    requires = ("user namespaces",)

    def examine(self, host: Host) -> Result:
        try:
            with scratch(host) as directory:
                target = directory + "/upper/gone"
                host.attempt(lambda: _make_whiteout(target))
        except (OSError, RootlessError) as problem:
            return self.warn(f"refused: {reason(problem)}", "use Linux 5.8 or newer")
        return self.ok("made one")


def _make_whiteout(path: str) -> bytes:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    return b""


class Overlay(Probe):
    """The test `run` itself makes before it uses overlayfs, on the store's file system."""

    name = "overlay"
    topic = "storage"
    purpose = "containers that start at once and share their image"
    requires = ("user namespaces",)

    def examine(self, host: Host) -> Result:
        with scratch(host) as directory:
            obstacle = probe.overlay(Paths(directory, directory), host.id_map)
        if not obstacle:
            return self.ok("mounted one, wrote and deleted through it")
        fallback = host.install("fuse-overlayfs")
        return self.warn(
            f"does not work on this file system: {obstacle}",
            f"{fallback}    # the next best; or Linux 5.11 with ext4, xfs or btrfs",
        )


def _change(directory: str) -> None:
    """Write and delete through the union; raises OSError if what comes out is not what a union gives."""
    with open(directory + "/merged/new", "w", encoding="ascii") as file:
        file.write("upper")
    os.unlink(directory + "/merged/file")
    if os.listdir(directory + "/merged") != ["new"] or not os.path.exists(
        directory + "/lower/file"
    ):
        raise OSError(errno.EIO, "the union shows the wrong files")


class FuseOverlay(Probe):
    """fuse-overlayfs mounted and changed through; only needed where the kernel's overlay does not work."""

    name = "fuse-overlayfs"
    topic = "storage"
    purpose = "sharing images where the kernel's overlay does not work"
    requires = ("user namespaces",)

    def examine(self, host: Host) -> Result:
        found = self._try(host)
        if found.status != "ok" and host.is_ok("overlay"):
            return self.ok(f"{found.found}; not needed, overlay works")
        return found

    def _try(self, host: Host) -> Result:
        program = idmap.find_program("fuse-overlayfs")
        if not program:
            return self.warn("not installed", host.install("fuse-overlayfs"))
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as problem:
            lines = (
                (f"{host.sudo}modprobe fuse",)
                if isinstance(problem, FileNotFoundError)
                else (f"{host.sudo}chmod 666 /dev/fuse",)
            )
            return self.warn(f"cannot open /dev/fuse: {reason(problem)}", *lines)
        try:
            with scratch(host) as directory:
                host.attempt(lambda: _use_fuse_overlay(program, directory))
        except (OSError, RootlessError) as problem:
            return self.warn(
                f"cannot mount with it: {reason(problem)}", host.install("fuse-overlayfs")
            )
        return self.ok("mounted one, wrote and deleted through it")


def _use_fuse_overlay(program: str, directory: str) -> bytes:
    """Mount in the foreground of a child, so that ending the child ends the mount."""
    layers = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
    merged = directory + "/merged"
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
    arguments = [program, "-o", layers, merged]  # it goes to the background once it is mounted
    _signal.alarm(10)  # a file system in user space can hang whoever looks at it
    pid = os.posix_spawn(program, arguments, {"PATH": "/usr/bin:/bin"}, file_actions=actions)
    status = os.waitpid(pid, 0)[1]
    if status:
        raise OSError(errno.EIO, f"{program} ended with status {os.waitstatus_to_exitcode(status)}")
    try:
        _change(directory)
    finally:
        mount.umount2(merged, mount.MNT_DETACH)  # the server ends with its last mount
    return b""
