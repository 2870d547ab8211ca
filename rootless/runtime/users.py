# SPDX-License-Identifier: Apache-2.0
"""Who the command runs as: the user string against the container's own passwd(5) and group(5).

Read inside the container's root, by our own parser: the C library would load whatever
nsswitch.conf of the image names (CVE-2019-14271). Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import os

_MAX_FILE = 10 * 1024 * 1024
_MAX_ID = 0xFFFFFFFE  # -1 means "leave unchanged" to setresuid(2)
_MAX_DIGITS = 64  # more than Python turns into a number without complaint would be nonsense anyway


class UnknownUser(ValueError):
    """The user string names nobody; the text says which part."""


class User:
    """Numeric identity of a process, and its home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups  # the primary group is always one of them (CVE-2022-2989)
        self.home = home


def resolve(text: str) -> User:
    """The User that `text` means: nothing (uid 0), a name or a uid, alone or with `:group` or `:gid`.

    Digits are always a number, even where a line calls somebody so: an image that names a user "1000"
    with uid 0 must not make root of `-u 1000`. A number nobody has is taken as it is, in group 0.
    Raises UnknownUser.
    """
    name, colon, group = text.partition(":")
    if (colon and not group) or (text and not name):
        raise UnknownUser(f"not a user: {text!r}: write USER or USER:GROUP")
    passwd = list(_lines("/etc/passwd", 7))
    found = _find(passwd, name or "0", 2)
    if found is not None:
        uid, gid, home = _number(found[2], "uid"), _number(found[3], "gid"), found[5] or "/"
    else:
        uid, gid, home = _number(name or "0", "user", name), 0, "/"
    groups = list(_lines("/etc/group", 4))
    if group:
        line = _find(groups, group, 2)
        gid = _number(line[2], "gid") if line is not None else _number(group, "group", group)
        return User(uid, gid, [gid], home)
    member = found[0] if found is not None else None
    belongs = [gid]
    for line in groups if member else ():
        if member in line[3].split(",") and _is_number(line[2]) and int(line[2]) not in belongs:
            belongs.append(_number(line[2], "gid"))
    return User(uid, gid, belongs, home)


def _find(lines: list[list[str]], wanted: str, number: int) -> list[str] | None:
    """The first line with that name; for digits, with that number."""
    if not _is_number(wanted):
        return next((line for line in lines if line[0] == wanted), None)
    for line in lines:
        if _is_number(line[number]) and int(line[number]) == int(wanted):
            return line
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _number(text: str, what: str, named: str = "") -> int:
    if not (text.isascii() and text.isdecimal()):
        if named:
            raise UnknownUser(f"no such {what} in the container: {named}")
        raise UnknownUser(f"not a {what}: {text!r}")
    if not _is_number(text) or (number := int(text)) > _MAX_ID:
        raise UnknownUser(f"the {what} {text} is larger than {_MAX_ID}")
    return number


def _lines(path: str, fields: int) -> list[list[str]]:
    """The well-formed lines of a colon-separated file; none when the file is missing.

    The file is the image author's: it may be a FIFO, a device or endless.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        status = os.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise UnknownUser(f"{path} in the container is not a regular file")
        if status.st_size > _MAX_FILE:
            raise UnknownUser(f"{path} in the container is larger than {_MAX_FILE} bytes")
        data = b""
        while len(data) <= _MAX_FILE and (chunk := os.read(fd, 1 << 16)):
            data += chunk
    finally:
        os.close(fd)
    found = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.strip().split(":")
        if len(parts) >= fields and not line.startswith("#") and "\0" not in line:
            found.append(parts)
    return found
