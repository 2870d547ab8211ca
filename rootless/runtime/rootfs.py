# SPDX-License-Identifier: Apache-2.0
"""The container's view of the file system as a list of steps that describe and execute themselves.

A step is data until the forked child executes it; `run --explain` prints the same list. Mount points
are found with openat2(2) inside the root once, and from there on only descriptors are used: nothing
an image contains can move a mount elsewhere. Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import host, mount, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.channel import Channel

_PATH = os.O_PATH | os.O_NOFOLLOW
_DIRECTORY = os.O_PATH | os.O_DIRECTORY

# What may be mounted below /proc: single files that tools such as lxcfs replace (runc's list).
PROC_ALLOWED = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps",
    "/proc/uptime", "/proc/loadavg", "/proc/slabinfo",
)  # fmt: skip


class Stage:
    """What the steps share while the root file system is set up."""

    __slots__ = ("channel", "null", "pid", "root")

    def __init__(self, channel: Channel | None = None, pid: int = 0) -> None:
        self.channel = channel  # to the parent
        self.pid = pid  # our pid as the parent sees it
        self.root = -1  # O_PATH descriptor of the container's root, once it is mounted
        self.null = -1  # detached bind mount source: the host's verified /dev/null


class Step:
    """One thing to do, and why. `describe` has no side effect; `execute` raises OSError."""

    __slots__ = ("reason",)
    name = "step"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def describe(self) -> str:
        """One line for a person, without the reason."""
        raise NotImplementedError

    def execute(self, stage: Stage) -> None:
        """Do it."""
        raise NotImplementedError


class Isolate(Step):
    """Mounts of the container stay its own; unmounts on the host still reach it."""

    __slots__ = ()
    name = "propagation"

    def describe(self) -> str:
        return "/ rslave"

    def execute(self, stage: Stage) -> None:
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)


class BindRoot(Step):
    """The root is a directory as it is."""

    __slots__ = ("path", "propagation")
    name = "root"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.propagation = mount.MS_PRIVATE

    def describe(self) -> str:
        return f"bind {self.path}"

    def execute(self, stage: Stage) -> None:
        tree = mount.open_tree(
            mount.AT_FDCWD, self.path, mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE
        )
        place_root(stage, tree, self.path, self.propagation)


def place_root(stage: Stage, tree: int, where: str, propagation: int = mount.MS_PRIVATE) -> None:
    """Attach the detached mount `tree` at the directory `where` and make it the stage's root."""
    mount.mount_setattr(tree, 0, propagation=propagation, recursive=True)
    target = os.open(where, _DIRECTORY | os.O_CLOEXEC)
    mount.move_mount(tree, target)
    os.close(target)
    stage.root = tree


class Mount(Step):
    """A new instance of a kernel file system at a directory of the container."""

    __slots__ = ("attributes", "data", "destination", "fstype", "source")
    name = "mount"

    def __init__(
        self,
        fstype: str,
        destination: str,
        data: Sequence[tuple[str, str | None]] = (),
        attributes: int = 0,
        reason: str = "",
        source: str = "",
    ) -> None:
        super().__init__(reason)
        self.fstype = fstype
        self.destination = destination
        self.data = data
        self.attributes = attributes
        self.source = source  # a device, or a name for mount(8) to show

    def describe(self) -> str:
        options = [key if value is None else f"{key}={value}" for key, value in self.data]
        spelled = ",".join(spell_attributes(self.attributes) + options)
        return f"{self.destination} {self.fstype} ({spelled})"

    def execute(self, stage: Stage) -> None:
        # proc and sysfs through a symbolic link would escape the masks put on them
        # (CVE-2019-19921): their place must be an ordinary directory.
        target = ensure(stage.root, self.destination, plain=self.fstype in ("proc", "sysfs"))
        data = with_mode(self.fstype, self.data, target)
        try:
            tree = make(self.fstype, data, self.attributes, self.source)
        except OSError as problem:
            raise OSError(
                problem.errno, f"{self.fstype}: {problem.strerror}", self.destination
            ) from None
        attach(tree, target, self.destination)


class CgroupMount(Mount):
    """The container's own cgroup as the root of what it sees; nothing where the host has no v2 tree."""

    __slots__ = ()

    def execute(self, stage: Stage) -> None:
        target = ensure(stage.root, self.destination)
        try:
            tree = make("cgroup2", self.data, self.attributes)
        except OSError:
            # No cgroup v2, or a sandbox around us hides parts of it: the kernel then refuses.
            tree = make("tmpfs", _EMPTY, self.attributes | mount.MOUNT_ATTR_RDONLY)
        attach(tree, target, self.destination)


class Bind(Step):
    """A file or directory of the host at a place in the container."""

    __slots__ = (
        "attributes",
        "clear",
        "deep",
        "destination",
        "propagation",
        "recursive",
        "source",
    )
    name = "bind"

    def __init__(
        self,
        source: str,
        destination: str,
        *,
        attributes: int = 0,
        clear: int = 0,
        recursive: bool = True,
        deep: bool = True,
        propagation: int = mount.MS_PRIVATE,
        reason: str = "",
    ) -> None:
        super().__init__(reason)
        self.source = source
        self.destination = destination
        self.attributes = attributes
        self.clear = clear
        self.recursive = recursive  # what is mounted below the source comes along
        self.deep = deep  # and gets the attributes too
        self.propagation = propagation

    def describe(self) -> str:
        kind = "rbind" if self.recursive else "bind"
        spelled = ",".join([kind, *spell_attributes(self.attributes)])
        return f"{self.destination} <- {self.source} ({spelled})"

    def execute(self, stage: Stage) -> None:
        flags = mount.OPEN_TREE_CLONE | (mount.AT_RECURSIVE if self.recursive else 0)
        tree = mount.open_tree(mount.AT_FDCWD, self.source, flags)
        below = self.attributes, self.clear
        if self.recursive and not self.deep:
            if any(below):
                mount.mount_setattr(tree, *below)
            below = 0, 0
        mount.mount_setattr(tree, *below, propagation=self.propagation, recursive=self.recursive)
        directory = os.fstat(tree).st_mode & 0o170000 == 0o040000
        target = ensure(stage.root, self.destination, directory=directory)
        attach(tree, target, self.destination)


class Devices(Step):
    """Device nodes by bind mount: a user namespace may not mknod(2) them."""

    __slots__ = ("nodes",)
    name = "devices"

    def __init__(self, nodes: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.nodes = nodes

    def describe(self) -> str:
        return " ".join(self.nodes)

    def execute(self, stage: Stage) -> None:
        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        # An image whose /dev is a link would have us make files elsewhere (CVE-2026-41579).
        directory = ensure(stage.root, "/dev", plain=True)
        for node in self.nodes:
            tree = mount.open_tree(mount.AT_FDCWD, node, mount.OPEN_TREE_CLONE)
            mount.mount_setattr(tree, attributes, propagation=mount.MS_PRIVATE)
            name = node.removeprefix("/dev/")
            target = ensure(directory, name, directory=False, plain=True)
            mount.move_mount(tree, target)
            os.close(target)
            os.close(tree)
        os.close(directory)


class Links(Step):
    """Symbolic links in the container's /dev, where nothing stands in their place."""

    __slots__ = ("links",)
    name = "links"

    def __init__(self, links: Sequence[tuple[str, str]], reason: str = "") -> None:
        super().__init__(reason)
        self.links = links

    def describe(self) -> str:
        return " ".join(f"{path} -> {target}" for path, target in self.links)

    def execute(self, stage: Stage) -> None:
        for path, target in self.links:
            directory, _, name = path.rpartition("/")
            parent = ensure(stage.root, directory or "/", plain=True)
            try:
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                pass
            finally:
                os.close(parent)


class Mask(Step):
    """Paths the container must not read: files become /dev/null, directories an empty tmpfs."""

    __slots__ = ("paths",)
    name = "mask"

    def __init__(self, paths: Sequence[str], reason: str = "") -> None:
        super().__init__(reason)
        self.paths = paths

    def describe(self) -> str:
        return " ".join(self.paths)

    def execute(self, stage: Stage) -> None:
        empty = -1
        for path in self.paths:
            target = _find(stage.root, path)
            if target < 0:
                continue
            if os.fstat(target).st_mode & 0o170000 == 0o040000:
                if empty < 0:
                    # One instance for all, with one inode, so that it costs the host nothing.
                    tree = empty = make("tmpfs", _EMPTY, mount.MOUNT_ATTR_RDONLY | _NOTHING)
                else:
                    tree = _clone(empty)
            else:
                tree = _clone(_null_device(stage))
                mount.mount_setattr(tree, _NOTHING & ~mount.MOUNT_ATTR_NODEV)
            mount.move_mount(tree, target)
            os.close(target)
            if tree != empty:
                os.close(tree)
        if empty >= 0:
            os.close(empty)


def _clone(fd: int) -> int:
    """A detached copy of a mount; before Linux 6.15 only of one that is attached somewhere."""
    return mount.open_tree(fd, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH)


_EMPTY = (("nr_blocks", "1"), ("nr_inodes", "1"))
_NOTHING = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC


def _null_device(stage: Stage) -> int:
    """A descriptor of the host's /dev/null, checked to be that device (CVE-2025-31133)."""
    if stage.null < 0:
        fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(fd)
        if status.st_mode & 0o170000 != 0o020000 or status.st_rdev != os.makedev(1, 3):
            raise OSError(errno.EINVAL, "/dev/null of the host is not the null device", "/dev/null")
        stage.null = fd
    return stage.null


class ReadOnly(Step):
    """Paths the container may read and not write."""

    __slots__ = ("paths",)
    name = "read-only"

    def __init__(self, paths: Sequence[str], reason: str = "") -> None:
        super().__init__(reason)
        self.paths = paths

    def describe(self) -> str:
        return " ".join(self.paths)

    def execute(self, stage: Stage) -> None:
        flags = mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE | mount.AT_EMPTY_PATH
        for path in self.paths:
            target = _find(stage.root, path)
            if target < 0:
                continue
            tree = mount.open_tree(target, "", flags)
            mount.mount_setattr(tree, mount.MOUNT_ATTR_RDONLY | _NOTHING, recursive=True)
            mount.move_mount(tree, target)
            os.close(tree)
            os.close(target)


class ReadOnlyRoot(Step):
    """The root itself refuses writes; what is mounted in it does not change."""

    __slots__ = ()
    name = "read-only root"

    def describe(self) -> str:
        return "/ ro"

    def execute(self, stage: Stage) -> None:
        mount.mount_setattr(stage.root, mount.MOUNT_ATTR_RDONLY)


class Pivot(Step):
    """The container's root becomes /, and the host's is let go of."""

    __slots__ = ()
    name = "pivot"

    def describe(self) -> str:
        return "pivot_root, then detach the old root"

    def execute(self, stage: Stage) -> None:
        os.fchdir(stage.root)
        # pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked on the new one.
        mount.pivot_root(".", ".")
        mount.umount2(".", mount.MNT_DETACH)
        os.chdir("/")
        os.close(stage.root)
        if stage.null >= 0:
            os.close(stage.null)
        stage.root = stage.null = -1


# -- pieces ------------------------------------------------------------------------------------------


def make(
    fstype: str, data: Sequence[tuple[str, str | None]], attributes: int, source: str = ""
) -> int:
    """A detached mount of a new file system instance."""
    context = mount.fsopen(fstype)
    try:
        if source:
            mount.fsconfig_set(context, "source", source)
        for key, value in data:
            mount.fsconfig_set(context, key, value)
        mount.fsconfig_create(context)
        return mount.fsmount(context, attributes)
    finally:
        os.close(context)


def with_mode(
    fstype: str, data: Sequence[tuple[str, str | None]], target: int
) -> Sequence[tuple[str, str | None]]:
    """The options of a file system; a tmpfs without `mode` gets the one of the directory it hides.

    The kernel's own choice, 1777, would open /run to everybody.
    """
    if fstype != "tmpfs" or any(key == "mode" for key, _ in data):
        return data
    return [*data, ("mode", f"{os.fstat(target).st_mode & 0o7777:o}")]


def ensure(root: int, path: str, *, directory: bool = True, plain: bool = False) -> int:
    """An O_PATH descriptor of a mount point inside `root`, made if it is missing.

    `plain` refuses symbolic links anywhere on the way.
    """
    resolve = openat2.RESOLVE_IN_ROOT | openat2.RESOLVE_NO_MAGICLINKS
    if plain:
        resolve |= openat2.RESOLVE_NO_SYMLINKS
    try:
        return openat2.openat2(root, path, os.O_PATH, 0, resolve)
    except FileNotFoundError:
        pass
    except OSError as problem:
        if problem.errno == errno.ELOOP and plain:
            what = "ordinary directory" if directory else "ordinary file"
            text = f"must be mounted on an {what}, this is a symbolic link"
            raise OSError(errno.ELOOP, text, path) from None
        raise
    above, _, name = path.rstrip("/").rpartition("/")
    if name == "..":
        raise OSError(errno.EINVAL, "cannot make a mount point named ..", path)
    parent = ensure(root, above or "/", plain=plain)
    try:
        _create(parent, name, directory)
        # What we made is no link; if it is one now, somebody swaps files under us: refuse.
        beneath = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS
        return openat2.openat2(parent, name, os.O_PATH, 0, beneath)
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "is a symbolic link that leads nowhere", path) from None
    finally:
        os.close(parent)


def _create(parent: int, name: str, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        pass


def attach(tree: int, target: int, destination: str) -> None:
    """Mount `tree` on `target`, and close both, unless that lies where nothing may be mounted."""
    try:
        if (
            host.file_system_type(target) == host.PROC_SUPER_MAGIC
            and destination not in PROC_ALLOWED
        ):
            raise OSError(errno.EPERM, "cannot be mounted because it is inside /proc", destination)
        mount.move_mount(tree, target)
    finally:
        os.close(target)
        os.close(tree)


def _find(root: int, path: str) -> int:
    """An O_PATH descriptor inside `root`, or -1 when there is nothing."""
    try:
        return openat2.in_root(root, path, _PATH)
    except (FileNotFoundError, NotADirectoryError):
        return -1


_SPELLED = (
    (mount.MOUNT_ATTR_RDONLY, "ro"),
    (mount.MOUNT_ATTR_NOSUID, "nosuid"),
    (mount.MOUNT_ATTR_NODEV, "nodev"),
    (mount.MOUNT_ATTR_NOEXEC, "noexec"),
    (mount.MOUNT_ATTR_NOATIME, "noatime"),
    (mount.MOUNT_ATTR_STRICTATIME, "strictatime"),
    (mount.MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (mount.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
)


def spell_attributes(attributes: int) -> list[str]:
    """MOUNT_ATTR_* bits as mount(8) options."""
    return [word for bit, word in _SPELLED if attributes & bit]
