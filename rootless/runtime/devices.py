# SPDX-License-Identifier: Apache-2.0
"""linux.devices beyond the default ones, as a step. Runs between fork and exec; imports nothing later.

mknod(2) belongs to the host's root, so for everybody else a device is the host's own node, bound to
its place after its type and numbers were verified on the descriptor.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import mount, openat2
from rootless.runtime.rootfs import Stage, Step, ensure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.oci.runtime_types import Device

_FORMAT = 0o170000
_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_DEFAULT_MODE = 0o666


class Nodes(Step):
    """Device nodes and FIFOs of the configuration."""

    __slots__ = ("nodes",)
    name = "devices"

    def __init__(self, nodes: list[Device], reason: str = "") -> None:
        super().__init__(reason)
        self.nodes = nodes

    def describe(self) -> str:
        return " ".join(map(_spell, self.nodes))

    def execute(self, stage: Stage) -> None:
        for node in self.nodes:
            _supply(stage.root, node)


def _spell(node: Device) -> str:
    if node["type"] == "p":
        return f"{node['path']} p"
    return f"{node['path']} {node['type']} {node['major']}:{node['minor']}"


def _supply(root: int, node: Device) -> None:
    path = node["path"].rstrip("/")
    directory, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not the path of a device", node["path"])
    # Links on the way would put the node elsewhere than the configuration says (CVE-2026-41579).
    parent = ensure(root, directory or "/", plain=True)
    try:
        existing = _open(parent, name)
        if existing >= 0:
            _check(existing, node)  # one of the default ones, or the image's own
            os.close(existing)
            return
        try:
            _make(parent, name, node)
        except PermissionError:
            if node["type"] == "p":
                raise
            _bind(parent, name, node)
    finally:
        os.close(parent)


def _open(parent: int, name: str) -> int:
    try:
        flags = os.O_PATH | os.O_NOFOLLOW
        return openat2.openat2(parent, name, flags, 0, openat2.RESOLVE_BENEATH)
    except FileNotFoundError:
        return -1


def _check(fd: int, node: Device) -> None:
    """Refuse a file that is not the device meant."""
    status = os.fstat(fd)
    fits = status.st_mode & _FORMAT == _TYPES[node["type"]]
    if fits and node["type"] != "p":
        fits = status.st_rdev == os.makedev(node["major"], node["minor"])
    if not fits:
        raise OSError(errno.EEXIST, "another file is there", node["path"])


def _make(parent: int, name: str, node: Device) -> None:
    mode = node.get("fileMode", _DEFAULT_MODE) & 0o7777
    device = 0 if node["type"] == "p" else os.makedev(node["major"], node["minor"])
    os.mknod(name, _TYPES[node["type"]] | 0o600, device, dir_fd=parent)
    made = _open(parent, name)
    try:
        _check(made, node)  # what we made, not what somebody put there since
        own = f"/proc/self/fd/{made}"  # chown and chmod of a descriptor do not take O_PATH
        os.chown(own, node.get("uid", 0), node.get("gid", 0))
        os.chmod(own, mode)
    finally:
        os.close(made)


def _bind(parent: int, name: str, node: Device) -> None:
    """Mount the host's node; its owner and mode are the host's and stay as they are."""
    source = _find(node)
    tree = mount.open_tree(source, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH)
    attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
    mount.mount_setattr(tree, attributes, propagation=mount.MS_PRIVATE)
    target = ensure(parent, name, directory=False, plain=True)
    mount.move_mount(tree, target)
    for fd in (tree, target, source):
        os.close(fd)


def _find(node: Device) -> int:
    """A descriptor of the host's device: at the same path, or where the kernel says it is."""
    for path in (node["path"], _kernel_path(node)):
        if not path:
            continue
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            _check(fd, node)
        except OSError:
            os.close(fd)
            continue
        return fd
    text = f"the host has no device {node['type']} {node['major']}:{node['minor']}"
    raise OSError(errno.ENODEV, text, node["path"])


def _kernel_path(node: Device) -> str:
    """The device's path by its numbers, from sysfs; "" when it does not know."""
    kind = "block" if node["type"] == "b" else "char"
    path = f"/sys/dev/{kind}/{node['major']}:{node['minor']}/uevent"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        lines = os.fsdecode(os.read(fd, 4096)).split("\n")
    finally:
        os.close(fd)
    names = [line.removeprefix("DEVNAME=") for line in lines if line.startswith("DEVNAME=")]
    return f"/dev/{names[0]}" if names else ""
