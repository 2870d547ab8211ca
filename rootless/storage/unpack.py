# SPDX-License-Identifier: Apache-2.0
"""Writing the entries of a layer's archive into its tree, as the root of a user namespace.

Works on directory descriptors only, follows no final symbolic link, and replaces what is in the way
by its own name; never by opening it.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from typing import TYPE_CHECKING

from rootless.errors import Invalid, NoSpace
from rootless.storage import tar, whiteouts, xattrs
from rootless.storage.confined import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.runtime.idmap import IdMap
    from rootless.storage.tar import Entry

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What an xattr may fail with that is the file system's or the namespace's limit, not damage.
_TOLERATED = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG, errno.ERANGE}
)
_NO_ID = 0xFFFFFFFF  # (uid_t) -1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What only the names and links of the archive can bring about.
_HOSTILE = frozenset(
    {
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOENT,
        errno.EINVAL,
        errno.EMLINK,
        errno.EXDEV,
        errno.EFBIG,
    }
)


class Writer:
    """Applies entries to the tree below `root`.

    The process has the ids of `id_map`, umask 0, and the tree to itself. `budget` bounds the bytes
    of all files. `add` may raise Invalid, NoSpace, HostUnable and OSError; after that the tree is
    good for removal only.
    """

    def __init__(self, root: int, id_map: IdMap, budget: int) -> None:
        self._tree = Tree(root)
        self._id_map = id_map
        self._budget = budget
        self._applies_owners = not id_map.is_single
        self._good_owners = {(0, 0)}
        self._directories: dict[bytes, Entry] = {}
        self._opaque: set[bytes] = set()
        self._has_whiteouts = False
        self.entries = 0
        self.files = 0
        self.size = 0
        self.checksums: dict[int, int] = {}  # CRC-32 of files' content, by inode
        self.devices_skipped = 0
        self.xattrs_skipped = 0

    def add(self, entry: Entry, data: Iterator[memoryview]) -> None:
        """Make what the entry describes, with `data` as the content of a file."""
        self.entries += 1
        try:
            self._add(entry, data)
        except OSError as problem:
            raise _explained(problem, entry.name) from problem

    def finish(self) -> bool:
        """Settle what had to wait for the last entry; True when the root itself is opaque.

        Owners, modes and times of directories come last: a setgid bit would spread to what is made
        inside, and making something inside changes the time.
        """
        path = b""
        try:
            if self._has_whiteouts:
                for path in sorted(self._opaque):
                    self._drop_whiteouts(path)
            for path, entry in self._directories.items():
                self._settle(path, entry)
        except OSError as problem:
            raise _explained(problem, path) from problem
        self._tree.close()
        return b"" in self._opaque

    def _add(self, entry: Entry, data: Iterator[memoryview]) -> None:
        name, kind = entry.name, entry.kind
        if whiteouts.MARK in name and self._add_marker(name):
            return
        if self._applies_owners and (entry.uid, entry.gid) not in self._good_owners:
            self._check_owner(entry)
        if kind is tar.DEVICE:
            self.devices_skipped += 1
            return
        parent, _, base = name.rpartition(b"/")
        if not base:
            self._add_root(entry)
            return
        directory = self._tree.directory(parent)
        if kind is tar.FILE:
            self._add_file(entry, base, directory, data)
        elif kind is tar.DIRECTORY:
            self._tree.put_directory(base, directory)
            self._directories.pop(name, None)
            self._directories[name] = entry
        elif kind is tar.LINK:
            self._add_link(entry, base, directory)
        else:
            self._add_special(entry, base, directory)

    def _add_root(self, entry: Entry) -> None:
        if entry.kind is not tar.DIRECTORY:
            raise Invalid(f"the root is a {entry.kind}")
        self._directories[b""] = entry

    # -- whiteouts ----------------------------------------------------------------------------------

    def _add_marker(self, name: bytes) -> bool:
        """Record a whiteout or an opaque directory; False when the name is neither."""
        *parents, base = name.split(b"/")
        marks = [part for part in (*parents, base) if part.startswith(whiteouts.MARK)]
        if not marks:
            return False
        if any(m.startswith(whiteouts.AUFS_MARK) and m != whiteouts.OPAQUE_MARK for m in marks):
            return True  # what aufs kept for itself; means nothing to anybody else
        gone = base[len(whiteouts.MARK) :]
        if marks != [base] or gone in (b"", b".", b".."):
            raise Invalid(f"invalid whiteout: {tar.show(name)}")
        parent = b"/".join(parents)
        directory = self._tree.directory(parent)
        if base == whiteouts.OPAQUE_MARK:
            whiteouts.hide_lower(b".", directory)
            self._opaque.add(parent)
            return True
        try:
            whiteouts.make_whiteout(gone, directory)
            self._has_whiteouts = True
        except FileExistsError:
            # The layer has its own: a file hides a lower one anyway, a directory must be told to.
            if stat.S_ISDIR(os.lstat(gone, dir_fd=directory).st_mode):
                whiteouts.hide_lower(gone, directory)
                self._opaque.add(b"/".join((*parents, gone)))
        return True

    def _drop_whiteouts(self, path: bytes) -> None:
        """Where nothing lower shows there is nothing to hide, and overlayfs would list the devices."""
        pending = [path]
        while pending:
            path = pending.pop()
            try:
                fd = self._tree.open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced since
            try:
                with os.scandir(fd) as found:
                    below = [
                        (os.fsencode(each.name), each.is_dir(follow_symlinks=False))
                        for each in found
                    ]
                for name, is_directory in below:
                    if is_directory:
                        pending.append(path + b"/" + name if path else name)
                    elif whiteouts.is_whiteout(os.lstat(name, dir_fd=fd)):
                        os.unlink(name, dir_fd=fd)
            finally:
                os.close(fd)

    # -- the kinds ----------------------------------------------------------------------------------

    def _add_file(
        self, entry: Entry, base: bytes, directory: int, data: Iterator[memoryview]
    ) -> None:
        self.files += 1
        self.size += entry.size
        if self.size > self._budget:
            raise NoSpace(
                f"it unpacks to more than the {self._budget} bytes that are free or allowed",
                hint="free some space: rootless rmi IMAGE; or raise limits.bytes, if that is set",
            )
        mode = entry.mode & 0o777
        try:
            fd = os.open(base, _CREATE, mode, dir_fd=directory)
        except FileExistsError:
            self._tree.remove(base, directory)
            fd = os.open(base, _CREATE, mode, dir_fd=directory)
        try:
            if entry.extents is None:
                checksum = 0
                for piece in data:
                    checksum = zlib.crc32(piece, checksum)
                    written = os.write(fd, piece)
                    while written < len(piece):
                        written += os.write(fd, piece[written:])
                self.checksums[os.fstat(fd).st_ino] = checksum
            else:
                _write_sparse(fd, entry.extents, entry.size, data)
            self._dress(fd, entry, entry.mode & 0o7000 != 0)
        finally:
            os.close(fd)

    def _add_link(self, entry: Entry, base: bytes, directory: int) -> None:
        """A second name for what the layer has already; its metadata came with the first."""
        parent, _, source = entry.link.rpartition(b"/")
        try:
            origin = self._tree.find(parent)
        except (FileNotFoundError, NotADirectoryError):
            raise _bad_link(entry, "something the layer has not") from None
        try:
            self._link(entry, (origin, source or b"."), (directory, base))
        finally:
            os.close(origin)

    def _link(self, entry: Entry, old: tuple[int, bytes], new: tuple[int, bytes]) -> None:
        (origin, source), (directory, base) = old, new
        found = _lstat(source, origin)
        if found is None or whiteouts.is_whiteout(found):
            raise _bad_link(entry, "something the layer has not")
        if stat.S_ISDIR(found.st_mode):
            raise _bad_link(entry, "a directory")
        if entry.name == entry.link:
            raise _bad_link(entry, "itself")
        there = _lstat(base, directory)
        if there is not None and os.path.samestat(found, there):
            return

        def make() -> None:
            os.link(source, base, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)

        self._tree.replace(make, base, directory)

    def _add_special(self, entry: Entry, base: bytes, directory: int) -> None:
        """A symbolic link or a FIFO: neither is ever opened, so they are dressed by name."""

        def make() -> None:
            if entry.kind is tar.SYMLINK:
                os.symlink(entry.link, base, dir_fd=directory)
            else:
                os.mkfifo(base, entry.mode & 0o777, dir_fd=directory)

        self._tree.replace(make, base, directory)
        if self._applies_owners and (entry.uid or entry.gid):
            os.chown(base, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        os.utime(base, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)
        self.xattrs_skipped += len(entry.xattrs)  # the kernel allows user.* on neither

    # -- metadata -------------------------------------------------------------------------------------

    def _settle(self, path: bytes, entry: Entry) -> None:
        try:
            fd = self._tree.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # replaced since
        try:
            self._dress(fd, entry, True)
        finally:
            os.close(fd)

    def _dress(self, fd: int, entry: Entry, needs_mode: bool) -> None:
        """Owner, then mode, then xattrs, then time: each clears or changes the ones after it."""
        if self._applies_owners and (entry.uid or entry.gid):
            os.fchown(fd, entry.uid, entry.gid)
        if needs_mode:
            os.fchmod(fd, entry.mode)
        if entry.xattrs:
            self._set_xattrs(fd, entry)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _set_xattrs(self, fd: int, entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            if not xattrs.is_portable(name):
                self.xattrs_skipped += 1
                continue
            try:
                os.setxattr(fd, name, xattrs.portable(name, value))
            except OSError as problem:
                if problem.errno not in _TOLERATED:
                    raise
                self.xattrs_skipped += 1

    def _check_owner(self, entry: Entry) -> None:
        for what, number, outside in (
            ("uid", entry.uid, self._id_map.to_host_uid(entry.uid)),
            ("gid", entry.gid, self._id_map.to_host_gid(entry.gid)),
        ):
            if outside is None:
                possible = 0 <= number < _NO_ID
                raise Invalid(
                    f"{tar.show(entry.name)} belongs to {what} {number}, which is not mapped",
                    hint=f"ask the administrator for more than {number} subordinate {what}s"
                    f" (usermod --add-sub{what}s)"
                    if possible
                    else "",
                )
        self._good_owners.add((entry.uid, entry.gid))


def _write_sparse(
    fd: int, extents: list[tuple[int, int]], size: int, data: Iterator[memoryview]
) -> None:
    piece = memoryview(b"")
    for offset, length in extents:
        os.lseek(fd, offset, os.SEEK_SET)
        while length:
            piece = piece or next(data)
            written = os.write(fd, piece[:length])
            piece = piece[written:]
            length -= written
    os.ftruncate(fd, size)


def _lstat(name: bytes, directory: int) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _bad_link(entry: Entry, what: str) -> Invalid:
    name, target = tar.show(entry.name), tar.show(entry.link)
    return Invalid(f"{name} is a hard link to {what}: {target}")


def _explained(problem: OSError, name: bytes) -> Exception:
    """The error to raise for a failed system call about the entry `name`."""
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    if problem.errno in _FULL:
        return NoSpace(
            f"cannot write {tar.show(name)}: {reason.lower()}",
            hint="free some space: rootless rmi IMAGE",
        )
    if problem.errno in _HOSTILE:
        return Invalid(f"cannot make {tar.show(name)}: {reason.lower()}")
    return OSError(problem.errno, reason, name.decode("utf-8", "backslashreplace"))
