# SPDX-License-Identifier: Apache-2.0
"""Which extended attributes go between an archive and a disk, and in what form; xattr(7)."""

from __future__ import annotations

import struct

CAPABILITY = b"security.capability"
# Names by which a union file system would take orders from a layer.
_RESERVED = (
    b"user.overlay.",
    b"user.fuseoverlayfs.",
    b"user.containers.override_",
)
_VERSION_2, _VERSION_3_LENGTH = 0x02000000, 24


def is_portable(name: bytes) -> bool:
    """True for attributes that mean the same on every host; neither ACLs nor labels do."""
    if name == CAPABILITY:
        return True
    return name.startswith(b"user.") and b"\0" not in name and not name.startswith(_RESERVED)


def portable(name: bytes, value: bytes) -> bytes:
    """The value without the user namespace of whoever packed it.

    Version 3 of file capabilities names its root (capabilities(7)); from version 2 the kernel makes
    a version 3 that names the root of the namespace which sets it.
    """
    if name != CAPABILITY or len(value) != _VERSION_3_LENGTH:
        return value
    (magic,) = struct.unpack_from("<I", value)
    return struct.pack("<I", _VERSION_2 | magic & 0x00FFFFFF) + value[4:20]
