# SPDX-License-Identifier: Apache-2.0
"""Compiled seccomp programs, kept from one container to the next. Hot: finding one is a single read.

A program depends on the profile's file, the capabilities, the processor and the kernel's version;
the name of its file is made of them, so nothing is ever out of date, only unused. What is damaged
or not ours is compiled again. The directory may be deleted at any time.
"""

from __future__ import annotations

import os
import stat
import zlib

from rootless import log
from rootless.errors import HostUnable, NotFound
from rootless.linux import abi, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Part of each name: to be raised when the same profile would be compiled differently.
_FORMAT = 1
_MAGIC = b"rlsc"
_HEADER = 12  # magic, flags, checksum of name, flags and code
_LIMIT = _HEADER + seccomp.MAX_INSTRUCTIONS * seccomp.INSTRUCTION_SIZE
_KEPT = 64

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# In an installed package, and in a checkout.
_DEFAULTS = (_PACKAGE + "/bin/seccomp.json", os.path.dirname(_PACKAGE) + "/helpers/seccomp.json")
_BUILT_IN = ("default", "builtin")  # docker calls its own builtin


class Program(bytes):
    """A filter for `linux.seccomp.load`, with the flags to load it with."""

    flags: int

    def __new__(cls, code: bytes, flags: int = 0) -> Program:
        """The code as bytes that know their flags."""
        made = super().__new__(cls, code)
        made.flags = flags
        return made


def program(
    capabilities: int, profile: str = "default", *, architecture: str = "", directory: str = ""
) -> Program:
    """The program of a profile for a container with these capabilities in its bounding set.

    `profile` is "default" or a file in docker's form or the runtime specification's;
    `architecture` is the image's, in Go's words, when it is not the machine's. `directory` is where
    programs are kept instead of the user's cache directory. Raises NotFound, Invalid, HostUnable.
    """
    path, found = _find(profile)
    # The change time, because nothing a user can do sets it back.
    name = (
        f"{_FORMAT}-{abi.MACHINE}-{_kernel()}-{architecture}-{capabilities:x}-"
        f"{found.st_dev:x}-{found.st_ino:x}-{found.st_ctime_ns:x}-{found.st_size:x}"
    )
    directory = directory or _directory()
    kept = _read(directory, name)
    if kept is not None:
        return kept
    from rootless.runtime import seccomp as compiler

    resolved = compiler.resolve(compiler.read(path), capabilities, architecture, where=path)
    made = compiler.compile_profile(resolved, path)
    _write(directory, name, made)
    return made


def of_document(spelled: dict[str, Any], *, directory: str = "") -> Program:
    """The program of a linux.seccomp object, such as an engine hands over again and again."""
    import _blake2  # the half in C: hashlib loads OpenSSL

    from rootless.oci import document

    digest = _blake2.blake2b(document.dumps(spelled), digest_size=20).hexdigest()
    name = f"{_FORMAT}-{abi.MACHINE}-{digest}"
    directory = directory or _directory()
    kept = _read(directory, name)
    if kept is not None:
        return kept
    from rootless.runtime import seccomp as compiler

    made = compiler.compile_profile(spelled)
    _write(directory, name, made)
    return made


def _find(profile: str) -> tuple[str, os.stat_result]:
    paths = _DEFAULTS if profile in _BUILT_IN else (profile,)
    for path in paths:
        try:
            return path, os.stat(path)
        except OSError as problem:
            reason = (problem.strerror or "").lower()
    if profile in _BUILT_IN:
        raise HostUnable(
            f"the default seccomp profile is missing: {paths[0]}",
            hint="install rootless again, or name a profile: --security-opt seccomp=FILE",
        )
    raise NotFound(
        f"cannot read the seccomp profile: {profile}: {reason}",
        hint="name a JSON file, or: --security-opt seccomp=unconfined",
    )


def _kernel() -> str:
    """Major and minor version, which profiles may depend on."""
    return ".".join(os.uname().release.split(".")[:2])


def _directory() -> str:
    """Where programs are kept; "" where the user has no such place."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            return ""
        base = home + "/.cache"
    return base + "/rootless/seccomp"


def _read(directory: str, name: str) -> Program | None:
    """A kept program, or None when there is none that can be trusted."""
    if not directory:
        return None
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if not _is_private(os.fstat(fd)):
            return None
        data = os.read(fd, _LIMIT + 1)
    finally:
        os.close(fd)
    code = data[_HEADER:]
    flags = data[4:8]
    if (
        data[:4] != _MAGIC
        or not code
        or len(code) % seccomp.INSTRUCTION_SIZE
        or len(data) > _LIMIT
        or _checksum(name, flags, code) != data[8:_HEADER]
    ):
        return None
    return Program(code, int.from_bytes(flags, "little"))


def _checksum(name: str, flags: bytes, code: bytes) -> bytes:
    """Over the name too: a program under another's name would be another container's."""
    return zlib.crc32(code, zlib.crc32(flags, zlib.crc32(name.encode()))).to_bytes(4, "little")


def _is_private(found: os.stat_result) -> bool:
    """A file or directory that nobody but us can have written to."""
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(directory: str, name: str, made: Program) -> None:
    """Keep a program; one that cannot be kept is compiled again next time."""
    if not directory:
        return
    flags = made.flags.to_bytes(4, "little")
    data = _MAGIC + flags + _checksum(name, flags, made) + made
    # Random, because a home directory may be shared by machines, and a pid by containers.
    beside = f"{directory}/.{os.urandom(8).hex()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if not _is_private(os.stat(directory)):
            log.warning("seccomp.cache", not_private=directory)
            return
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)  # and not synced: after a power cut the checksum tells
        finally:
            os.close(fd)
        os.rename(beside, f"{directory}/{name}")
        _forget_oldest(directory)
    except OSError as problem:
        log.debug("seccomp.cache", directory=directory, problem=problem.strerror)


def _forget_oldest(directory: str) -> None:
    """Bound the number of files; what a killed process left behind goes the same way."""
    with os.scandir(directory) as entries:
        ages = sorted(
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries
        )
    for _, path in ages[:-_KEPT]:
        os.unlink(path)
