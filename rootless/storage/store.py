# SPDX-License-Identifier: Apache-2.0
"""The store as a whole: making it, knowing its version, clearing away what a killed process left.

`ensure` stands on the way to every container and imports nothing more unless the store is new.
"""

from __future__ import annotations

import os

from rootless.errors import HostUnable
from rootless.paths import LAYOUT_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.paths import Paths

# Made with the store, so that nothing is needed of a full disk to hold them.
_LOCKS = (("store", "content"), ("store", "images"), ("store", "index"))
_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def ensure(paths: Paths) -> None:
    """See that there is a store of our layout; makes one where there is none.

    Raises HostUnable for a store of another layout, or a place nobody can write to.
    """
    found = _read_version(paths)
    if found is None:
        open_store(paths)
    else:
        _check_version(paths, found)


def open_store(paths: Paths) -> None:
    """Make what is missing of the store and delete abandoned work; for commands that write to it.

    Raises HostUnable as `ensure` does.
    """
    found = _read_version(paths)
    if found is not None:
        _check_version(paths, found)
    try:
        _make_directories(paths)
        if found is None:
            write_marker(paths)
            write_version(paths)
    except (PermissionError, NotADirectoryError, FileExistsError) as problem:
        raise HostUnable(
            f"cannot make the store: {problem.filename}: {problem.strerror}",
            hint="name a directory that you may write to: export ROOTLESS_ROOT=/path/to/store",
        ) from None
    from rootless.storage import staging

    staging.sweep(paths)


def directories(paths: Paths) -> tuple[str, ...]:
    """The directories that every store has."""
    return (
        paths.blobs,
        paths.references,
        paths.images,
        paths.layers,
        paths.containers,
        paths.names,
        paths.locks,
        paths.tmp,
    )


def _make_directories(paths: Paths) -> None:
    os.makedirs(paths.data, 0o700, exist_ok=True)
    for path in directories(paths):
        try:
            # 0700 whatever the umask: setuid files of subordinate ids must not be reachable by
            # other users of the machine (CVE-2021-41091).
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
    for kind, name in _LOCKS:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(paths.lock(kind, name), flags, 0o600))


def write_version(paths: Paths) -> None:
    """Say that the store has our layout, whatever was said before."""
    from rootless.storage import staging

    staging.replace_file(paths, paths.version, b"%d\n" % LAYOUT_VERSION)


def write_marker(paths: Paths) -> None:
    """Write `oci-layout`, which makes an OCI image layout of the store (image-layout.md)."""
    from rootless.storage import staging

    staging.replace_file(paths, paths.oci_layout, _OCI_LAYOUT)


def _read_version(paths: Paths) -> bytes | None:
    try:
        fd = os.open(paths.version, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as problem:
        raise HostUnable(f"cannot read the store: {paths.version}: {problem.strerror}") from None
    try:
        return os.read(fd, 64)
    finally:
        os.close(fd)


def _check_version(paths: Paths, found: bytes) -> None:
    if found.strip() != b"%d" % LAYOUT_VERSION:
        shown = found.decode(errors="replace").strip()
        raise HostUnable(
            f"cannot use the store: {paths.data}: its layout is {shown!r}, not {LAYOUT_VERSION}",
            hint="use the rootless that made it, or another directory: export ROOTLESS_ROOT=...",
        )
