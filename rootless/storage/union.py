# SPDX-License-Identifier: Apache-2.0
"""One root file system out of read-only layers and a writable one: which driver, and its steps.

Kernel overlayfs inside the user namespace where a probe says it works, otherwise fuse-overlayfs,
otherwise a copy. All three show the same tree. The steps run between fork and exec.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import HostUnable, UsageError
from rootless.linux import mount, namespaces
from rootless.runtime import idmap, rootfs
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap
    from rootless.runtime.recipe import Server

DRIVERS = ("overlay", "fuse-overlayfs", "copy")
_MAX_FSCONFIG = 255  # fsconfig(2) takes strings of at most 256 bytes with the final NUL


class Union:
    """A driver that was chosen, why, and what it needs done."""

    __slots__ = ("driver", "reason", "server", "step")

    def __init__(self, driver: str, reason: str, step: Step, server: Server | None = None) -> None:
        self.driver = driver
        self.reason = reason
        self.step = step
        self.server = server


def choose(paths: Paths, id_map: IdMap, forced: str = "") -> tuple[str, str]:
    """The driver to use and the reason; `forced` is the user's own choice.

    Raises UsageError for an unknown driver, HostUnable when a forced one cannot work here.
    """
    forced = "copy" if forced == "vfs" else forced
    if forced and forced not in DRIVERS:
        raise UsageError(
            f"no such storage driver: {forced}", hint=f"use one of: {', '.join(DRIVERS)}"
        )
    if forced == "copy":
        return "copy", "asked for"
    overlay = _overlay_obstacle(paths, id_map) if forced != "fuse-overlayfs" else "not asked for"
    if not overlay:
        return "overlay", "asked for" if forced else "works in a user namespace here"
    if forced == "overlay":
        raise HostUnable(
            f"cannot use overlayfs: {overlay}",
            hint="leave out --storage-driver, or use fuse-overlayfs",
        )
    fuse = _fuse_obstacle(paths)
    if not fuse:
        return "fuse-overlayfs", "asked for" if forced else f"overlayfs does not work: {overlay}"
    if forced:
        raise HostUnable(
            f"cannot use fuse-overlayfs: {fuse}", hint="apt install fuse-overlayfs; ls -l /dev/fuse"
        )
    return "copy", f"overlayfs does not work: {overlay}; fuse-overlayfs neither: {fuse}"


def union(
    driver: str, reason: str, lowers: Sequence[str], container: str, *, throwaway: bool = False
) -> Union:
    """The steps that make a root file system of `lowers` (uppermost first) below directory `container`.

    With `throwaway` nothing of it needs to survive a power cut.
    """
    if driver == "copy":
        return Union(driver, reason, rootfs.BindRoot(container + "/rootfs", reason))
    writable = Writable(container)
    if driver == "overlay":
        return Union(driver, reason, Overlay(lowers, writable, throwaway, reason))
    server = FuseServer(idmap.find_program("fuse-overlayfs"), lowers, writable)
    return Union(driver, reason, FuseRoot(server, reason), server)


class Writable:
    """The directories of one container's writable layer."""

    __slots__ = ("merged", "upper", "work")

    def __init__(self, container: str) -> None:
        self.upper = container + "/upper"
        self.work = container + "/work"
        self.merged = container + "/merged"

    def adopt_root(self, lower: str) -> None:
        """Give the upper directory the owner and mode of the layer below: a union shows its own."""
        above, below = os.stat(self.upper), os.stat(lower)
        try:
            if (above.st_uid, above.st_gid) != (below.st_uid, below.st_gid):
                os.chown(self.upper, below.st_uid, below.st_gid)
            if above.st_mode != below.st_mode:
                os.chmod(self.upper, below.st_mode & 0o7777)
        except OSError:
            pass  # a directory of somebody whose id is not mapped, with --rootfs


class Overlay(Step):
    """Kernel overlayfs, mounted by the root of the user namespace."""

    __slots__ = ("lowers", "throwaway", "writable")
    name = "root"

    def __init__(
        self, lowers: Sequence[str], writable: Writable, throwaway: bool, reason: str
    ) -> None:
        super().__init__(reason)
        self.lowers = lowers
        self.writable = writable
        self.throwaway = throwaway

    def describe(self) -> str:
        lowers = "\n".join(f"    lower {lower}" for lower in self.lowers)
        return f"overlay\n    upper {self.writable.upper}\n{lowers}"

    def execute(self, stage: Stage) -> None:
        if self.lowers:
            self.writable.adopt_root(self.lowers[0])
        try:
            tree = self._mount()
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                raise
            self._mount_before_6_8()
            stage.root = os.open(self.writable.merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        rootfs.place_root(stage, tree, self.writable.merged)

    def _mount(self) -> int:
        context = mount.fsopen("overlay")
        opened: list[int] = []
        try:
            for lower in self.lowers:
                mount.fsconfig_set(context, "lowerdir+", _short(lower, opened))
            mount.fsconfig_set(context, "upperdir", _short(self.writable.upper, opened))
            mount.fsconfig_set(context, "workdir", _short(self.writable.work, opened))
            # Attributes in user.overlay.*: trusted.* belongs to the initial namespace's root.
            mount.fsconfig_set(context, "userxattr")
            if self.throwaway:
                # Otherwise the unmount would sync the whole file system below.
                mount.fsconfig_set(context, "volatile")
            mount.fsconfig_create(context)
            return mount.fsmount(context)
        finally:
            for fd in (context, *opened):
                os.close(fd)

    def _mount_before_6_8(self) -> None:
        """mount(2) and its one page of options: layers as descriptors, so that 128 of them fit."""
        opened: list[int] = []
        try:
            for path in (*self.lowers, self.writable.upper, self.writable.work):
                opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            *lowers, upper, work = (f"/proc/self/fd/{fd}" for fd in opened)
            data = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},userxattr"
            if self.throwaway:
                data += ",volatile"
            mount.mount("overlay", self.writable.merged, "overlay", 0, data)
        finally:
            for fd in opened:
                os.close(fd)


def _short(path: str, opened: list[int]) -> str:
    """A spelling of `path` that fsconfig(2) takes and overlayfs does not unescape (ovl_unescape)."""
    if len(os.fsencode(path)) <= _MAX_FSCONFIG and "\\" not in path:
        return path
    opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"


class FuseServer:
    """fuse-overlayfs, serving a mount that we make ourselves.

    Making the mount here and giving the server its descriptor means there is nothing to wait for.
    The server stays in a mount namespace without that mount, so when the container's namespace ends
    the mount ends, and with it the server: nothing is left behind however we die.
    """

    __slots__ = ("lowers", "program", "writable")

    def __init__(self, program: str, lowers: Sequence[str], writable: Writable) -> None:
        self.program = program
        self.lowers = lowers
        self.writable = writable

    def start(self) -> int:
        """Mount, and start the server; returns its pid. Runs between fork and exec.

        Called in a mount namespace of its own, in which the server stays; leaves for another.
        """
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
        if self.lowers:
            self.writable.adopt_root(self.lowers[0])
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        waiting, releasing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._serve(device, waiting, releasing)
        namespaces.unshare(namespaces.CLONE_NEWNS)
        # default_permissions: the kernel checks modes and owners, as on any file system.
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        flags = mount.MS_NODEV
        mount.mount("fuse-overlayfs", self.writable.merged, "fuse.fuse-overlayfs", flags, options)
        os.write(releasing, b"m")
        for fd in (device, waiting, releasing):
            os.close(fd)
        return pid

    def _serve(self, device: int, waiting: int, releasing: int) -> None:
        try:
            os.close(releasing)
            if not os.read(waiting, 1):
                os._exit(1)
            os.set_inheritable(device, True)
            null = os.open("/dev/null", os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            lowers = ":".join(map(_escape, self.lowers))
            upper, work = _escape(self.writable.upper), _escape(self.writable.work)
            options = f"lowerdir={lowers},upperdir={upper},workdir={work}"
            arguments = [self.program, "-f", "-o", options, f"/dev/fd/{device}"]
            os.execve(self.program, arguments, {"PATH": os.defpath})
        finally:
            os._exit(127)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class FuseRoot(Step):
    """The root that the FUSE server has mounted before."""

    __slots__ = ("server",)
    name = "root"

    def __init__(self, server: FuseServer, reason: str) -> None:
        super().__init__(reason)
        self.server = server

    def describe(self) -> str:
        lowers = "\n".join(f"    lower {lower}" for lower in self.server.lowers)
        return f"fuse-overlayfs\n    upper {self.server.writable.upper}\n{lowers}"

    def execute(self, stage: Stage) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        stage.root = os.open(self.server.writable.merged, flags)


# -- probing -----------------------------------------------------------------------------------------


def _overlay_obstacle(paths: Paths, id_map: IdMap) -> str:
    """Why overlayfs does not work on the store, "" if it does; asked once a boot."""
    remembered = f"{paths.run}/overlay-{'single' if id_map.is_single else 'mapped'}"
    release = os.uname().release
    try:
        fd = os.open(remembered, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096).decode()
        finally:
            os.close(fd)
        about, _, obstacle = text.partition("\n")
        if about == f"{release} {paths.data}":
            return obstacle
    except OSError:
        pass
    from rootless.storage import probe  # only once a boot

    obstacle = probe.overlay(paths, id_map)
    probe.remember(remembered, f"{release} {paths.data}\n{obstacle}")
    return obstacle


def _fuse_obstacle(paths: Paths) -> str:
    """Why fuse-overlayfs does not work on the store, "" if nothing speaks against it."""
    if ":" in paths.data:
        # It splits its upper directory at colons, escaped or not, and shows an empty root.
        return f"it takes no path with a colon: {paths.data}"
    if not idmap.find_program("fuse-overlayfs"):
        return "it is not installed"
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as problem:
        return f"/dev/fuse: {(problem.strerror or '').lower()}"
    try:
        is_fuse = os.fstat(fd).st_rdev == os.makedev(10, 229)  # devices.txt: misc, fuse
    finally:
        os.close(fd)
    return "" if is_fuse else "/dev/fuse is not that device"
