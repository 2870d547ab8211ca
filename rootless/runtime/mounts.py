# SPDX-License-Identifier: Apache-2.0
"""Mounts with what few ask for: recursive attributes, id maps, copied contents, links left unfollowed.

Also linux.rootfsPropagation. Runs between fork and exec; imports nothing later. The plain mounts are
in `runtime.rootfs`.
"""

from __future__ import annotations

import _signal
import errno
import os

from rootless.linux import mount, namespaces, openat2, prctl
from rootless.runtime import copyup, procfs, rootfs
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.compose import Options
    from rootless.runtime.idmap import IdMap, Range


class Elaborate(Step):
    """A bind mount or a new file system with any of the options of config.md."""

    __slots__ = ("destination", "fstype", "id_map", "options", "source")
    name = "mount"

    def __init__(
        self,
        fstype: str,
        source: str,
        destination: str,
        options: Options,
        id_map: MountMap | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(reason)
        self.fstype = fstype  # "" for a bind mount
        self.source = source
        self.destination = destination
        self.options = options
        self.id_map = id_map

    def describe(self) -> str:
        spelled = ",".join(self.options.spell())
        if self.fstype:
            return f"{self.destination} {self.fstype} ({spelled})"
        return f"{self.destination} <- {self.source} ({spelled})"

    def execute(self, stage: Stage) -> None:
        options = self.options
        if options.copies_link and self._copy_link(stage.root):
            return
        tree, target = self._bound(stage.root) if not self.fstype else self._made(stage.root)
        if options.copies_up:
            copyup.copy(target, tree)
        if self.id_map is not None:
            self.id_map.apply(tree, self.destination)
        if options.set_below or options.clear_below:
            mount.mount_setattr(tree, options.set_below, options.clear_below, recursive=True)
        if options.propagation:
            mount.mount_setattr(tree, 0, propagation=options.propagation, recursive=True)
        rootfs.attach(tree, target, self.destination)

    def _copy_link(self, root: int) -> bool:
        """Make the symbolic link that the source is; False when it is none."""
        try:
            link = os.readlink(self.source)
        except OSError:
            return False
        directory, _, name = self.destination.rstrip("/").rpartition("/")
        parent = rootfs.ensure(root, directory or "/")
        try:
            os.symlink(link, name, dir_fd=parent)
        except FileExistsError:
            if os.readlink(name, dir_fd=parent) != link:
                raise OSError(errno.EEXIST, "another file is there", self.destination) from None
        finally:
            os.close(parent)
        return True

    def _bound(self, root: int) -> tuple[int, int]:
        """The detached mount and its place, for a bind mount."""
        options = self.options
        flags = mount.OPEN_TREE_CLONE | (mount.AT_RECURSIVE if options.recursive else 0)
        if not options.follows_source:
            flags |= mount.AT_SYMLINK_NOFOLLOW
        tree = mount.open_tree(mount.AT_FDCWD, self.source, flags)
        below = options.recursive and options.deep
        if options.set or options.clear:
            mount.mount_setattr(tree, options.set, options.clear, recursive=below)
        return tree, self._target(root, os.fstat(tree).st_mode & 0o170000 == 0o040000)

    def _made(self, root: int) -> tuple[int, int]:
        """The same for a new file system."""
        target = self._target(root, True)
        data = rootfs.with_mode(self.fstype, self.options.data, target)
        return rootfs.make(self.fstype, data, self.options.set, self.source), target

    def _target(self, root: int, directory: bool) -> int:
        plain = self.fstype in ("proc", "sysfs")
        if not self.options.follows_destination:
            resolve = openat2.RESOLVE_IN_ROOT | openat2.RESOLVE_NO_MAGICLINKS
            try:
                return openat2.openat2(
                    root, self.destination, os.O_PATH | os.O_NOFOLLOW, 0, resolve
                )
            except FileNotFoundError:
                pass
        return rootfs.ensure(root, self.destination, directory=directory, plain=plain)


class RootPropagation(Step):
    """linux.rootfsPropagation, in the container's own mount namespace; after the pivot."""

    __slots__ = ("flags", "spelled")
    name = "propagation"

    def __init__(self, spelled: str, flags: int) -> None:
        super().__init__("linux.rootfsPropagation")
        self.spelled = spelled
        self.flags = flags

    def describe(self) -> str:
        return f"/ {self.spelled}"

    def execute(self, stage: Stage) -> None:
        mount.mount(None, "/", None, self.flags)


class MountMap:
    """Ids of a mount that differ from those of its file system: mounts[].uidMappings and `idmap`."""

    __slots__ = ("gids", "is_own", "is_recursive", "uids")

    def __init__(
        self,
        uids: Sequence[Range],
        gids: Sequence[Range],
        *,
        is_own: bool = False,
        is_recursive: bool = False,
    ) -> None:
        self.uids = uids  # (id in the file system, id as the container knows it, count)
        self.gids = gids
        self.is_own = is_own  # the container's own map instead
        self.is_recursive = is_recursive

    def apply(self, tree: int, destination: str) -> None:
        """Map a detached mount. Raises OSError EPERM for a file system that is not the container's own."""
        namespace = self._namespace()
        try:
            mount.mount_setattr(
                tree,
                mount.MOUNT_ATTR_IDMAP,
                recursive=self.is_recursive,
                user_namespace=namespace,
            )
        except OSError as problem:
            text = f"the kernel refuses to map the ids of this mount: {os.strerror(problem.errno or 0)}"
            raise OSError(problem.errno, text, destination) from None
        finally:
            os.close(namespace)

    def _namespace(self) -> int:
        """A descriptor of a user namespace with this map."""
        proc = procfs.Proc()
        try:
            if self.is_own:
                return os.open("self/ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc.fd)
            if not proc.is_new or os.getpid() != 1:
                text = "mapping the ids of a mount needs a pid namespace of the container's own"
                raise OSError(errno.EOPNOTSUPP, text)
            return self._new_namespace(proc)
        finally:
            proc.close()

    def _new_namespace(self, proc: procfs.Proc) -> int:
        ready, readying = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                namespaces.unshare(namespaces.CLONE_NEWUSER)
                prctl.set_dumpable(True)  # or its maps would be root's to write
                os.write(readying, b"r")
                while True:
                    _signal.pause()
            finally:
                os._exit(1)
        os.close(readying)
        try:
            if not os.read(ready, 1):
                raise OSError(errno.EPERM, "a user namespace in the container was refused")
            proc.write(f"{pid}/uid_map", _lines(self.uids))
            proc.write(f"{pid}/gid_map", _lines(self.gids))
            return os.open(f"{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc.fd)
        finally:
            os.close(ready)
            os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)


def _lines(ranges: Sequence[Range]) -> str:
    return "\n".join(" ".join(map(str, line)) for line in ranges)


def mount_map(
    uids: Sequence[Range], gids: Sequence[Range], id_map: IdMap, *, is_recursive: bool
) -> MountMap:
    """The map of a mount whose outer ids are the host's, in the ids of the container's user namespace.

    Ids of the host that the container does not have are left out: nobody there could own a file
    by them. Without any ranges it is the container's own map.
    """
    return MountMap(
        _inside(uids, id_map.uids),
        _inside(gids, id_map.gids),
        is_own=not uids,
        is_recursive=is_recursive,
    )


def _inside(wanted: Sequence[Range], ranges: Sequence[Range]) -> list[Range]:
    found = []
    for first, outside, count in wanted:
        for inside, start, size in ranges:
            low, high = max(outside, start), min(outside + count, start + size)
            if low < high:
                found.append((first + low - outside, inside + low - start, high - low))
    return found
