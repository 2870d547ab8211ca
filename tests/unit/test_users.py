# SPDX-License-Identifier: Apache-2.0
"""The user string against a container's passwd(5) and group(5), read inside a root of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.oci import document
from rootless.runtime import userns, users
from rootless.runtime.idmap import IdMap

pytestmark = pytest.mark.needs("userns")

SINGLE = IdMap(((0, os.getuid(), 1),), ((0, os.getgid(), 1),), "test")
LIMIT = 10 * 1024 * 1024

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:2::/:/bin/sh
user:x:1000:1001:User:/home/user:/bin/sh
1234:x:0:0:looks like a number::/bin/sh
twice:x:1000:5::/second:/bin/sh
bad:x:-5:0::/:/bin/sh
worse:x:1:::/:/bin/sh
huge:x:4294967297:0::/:/bin/sh
short:x:7:7
"""
GROUP = """\
root:x:0:
user:x:1001:user
staff:x:50:daemon,user
again:x:50:user
77:x:0:user
bad:x:y:user
broken
"""

Answer = list[object]  # uid, gid, groups, home; or one text: why not


def ask(directory: Path, texts: list[str]) -> list[Answer]:
    """What `users.resolve` says to each text in a container whose root is `directory`."""

    def resolve_all() -> bytes:
        os.chroot(directory)
        os.chdir("/")
        return document.dumps([_resolve(text) for text in texts])

    found: list[Answer] = document.loads(userns.call(SINGLE, resolve_all))
    return found


def _resolve(text: str) -> Answer:
    try:
        user = users.resolve(text)
    except users.UnknownUser as problem:
        return [str(problem)]
    return [user.uid, user.gid, user.groups, user.home]


@pytest.fixture
def root(tmp_path: Path) -> Callable[..., Path]:
    def make(passwd: str | None = PASSWD, group: str | None = GROUP) -> Path:
        (tmp_path / "etc").mkdir()
        for name, text in (("passwd", passwd), ("group", group)):
            if text is not None:
                (tmp_path / "etc" / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


TABLE = {
    "": [0, 0, [0], "/root"],
    "root": [0, 0, [0], "/root"],
    "0": [0, 0, [0], "/root"],
    "00": [0, 0, [0], "/root"],
    "1": [1, 2, [2, 50], "/"],
    "daemon": [1, 2, [2, 50], "/"],
    "user": [1000, 1001, [1001, 50, 0], "/home/user"],
    "1000": [1000, 1001, [1001, 50, 0], "/home/user"],
    "twice": [1000, 5, [5], "/second"],
    "1234": [1234, 0, [0], "/"],  # the number, not the name: else an image could make it root
    "1:2": [1, 2, [2], "/"],
    "1:staff": [1, 50, [50], "/"],
    "user:0": [1000, 0, [0], "/home/user"],
    "user:77": [1000, 77, [77], "/home/user"],
    "4294967294": [4294967294, 0, [0], "/"],
    "9:4294967294": [9, 4294967294, [4294967294], "/"],
    "short": ["no such user in the container: short"],
    "nobody": ["no such user in the container: nobody"],
    "user:nobody": ["no such group in the container: nobody"],
    "user:bad": ["not a gid: 'y'"],
    "bad": ["not a uid: '-5'"],
    "worse": ["not a gid: ''"],
    "huge": ["the uid 4294967297 is larger than 4294967294"],
    "+1": ["no such user in the container: +1"],
    "-1": ["no such user in the container: -1"],
    " 1": ["no such user in the container:  1"],
    "0x1": ["no such user in the container: 0x1"],
    "1.0": ["no such user in the container: 1.0"],
    "\N{FULLWIDTH DIGIT ONE}": ["no such user in the container: \N{FULLWIDTH DIGIT ONE}"],
    "4294967295": ["the user 4294967295 is larger than 4294967294"],
    "4294967296": ["the user 4294967296 is larger than 4294967294"],
    "99999999999": ["the user 99999999999 is larger than 4294967294"],
    "1:4294967295": ["the group 4294967295 is larger than 4294967294"],
    "9" * 100: [f"the user {'9' * 100} is larger than 4294967294"],
    ":1": ["not a user: ':1': write USER or USER:GROUP"],
    "1:": ["not a user: '1:': write USER or USER:GROUP"],
    ":": ["not a user: ':': write USER or USER:GROUP"],
    "1:2:3": ["no such group in the container: 2:3"],
}


def test_user_strings_mean_exactly_one_thing(root: Callable[..., Path]) -> None:
    """CVE-2026-30892, CVE-2024-40635: what is not understood is an error and never root."""
    assert dict(zip(TABLE, ask(root(), list(TABLE)), strict=True)) == TABLE


def test_without_passwd_and_group_numbers_still_work(root: Callable[..., Path]) -> None:
    answers = ask(root(None, None), ["", "5", "5:6", "name"])
    assert answers == [
        [0, 0, [0], "/"],
        [5, 0, [0], "/"],
        [5, 6, [6], "/"],
        ["no such user in the container: name"],
    ]


# -- a model -----------------------------------------------------------------------------------------

NAME = st.sampled_from(["root", "web", "db", "7", "70", "x y", "", "ü"])
NUMBER = st.sampled_from(["0", "7", "70", "007", "4294967294", "4294967295", "-1", "", "a"])
ENTRY = st.tuples(NAME, NUMBER, NUMBER).map(
    lambda t: f"{t[0]}:x:{t[1]}:{t[2]}::/home/{t[0]}:/bin/sh"
)
LINE = ENTRY | st.sampled_from(["", "# root:x:7:7::/:/bin/sh", "root", ":::::::", "web:x:7:70"])
MEMBERS = st.lists(NAME, max_size=3).map(",".join)
GROUP_LINE = st.tuples(NAME, NUMBER, MEMBERS).map(lambda t: f"{t[0]}:x:{t[1]}:{t[2]}")
PART = NAME | NUMBER | st.text("017:+- x", max_size=3)
TEXT = st.one_of(PART, st.tuples(PART, PART).map(":".join))


def number(spelled: str) -> int | None:
    value = int(spelled) if re.fullmatch("[0-9]+", spelled) else -1
    return value if 0 <= value < 2**32 - 1 else None


def rows(lines: list[str], count: int) -> list[list[str]]:
    split = [line.split(":") for line in lines if line[:1] != "#"]
    return [row for row in split if len(row) >= count]


def lookup(table: list[list[str]], wanted: str) -> list[str] | None:
    if re.fullmatch("[0-9]+", wanted):
        numeric = [row for row in table if re.fullmatch("[0-9]+", row[2])]
        matching = [row for row in numeric if int(row[2]) == int(wanted)]
    else:
        matching = [row for row in table if row[0] == wanted]
    return matching[0] if matching else None


def memberships(name: str, gid: int, groups: list[list[str]]) -> list[int] | None:
    """The primary group and those that list the name; None when one of them is no gid."""
    listed: list[int | None] = [gid]
    for entry in groups:
        if name and name in entry[3].split(",") and re.fullmatch("[0-9]+", entry[2]):
            listed.append(number(entry[2]))
    kept = [one for one in dict.fromkeys(listed) if one is not None]
    return None if None in listed else kept


def model(text: str, passwd: list[str], group: list[str]) -> Answer | None:
    """The User of a text, by the specification in words: None for an error."""
    match = re.fullmatch("(?:([^:]+)(?::(.+))?)?", text)
    if not match:
        return None
    row = lookup(rows(passwd, 7), match[1] or "0") or ["", "", match[1] or "0", "0", "", "", ""]
    uid, gid, home = number(row[2]), number(row[3]), row[5] or "/"
    if uid is None or gid is None:
        return None
    if match[2]:
        found = lookup(rows(group, 4), match[2])
        gid = number(found[2] if found else match[2])
        return None if gid is None else [uid, gid, [gid], home]
    listed = memberships(row[0], gid, rows(group, 4))
    return None if listed is None else [uid, gid, listed, home]


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    st.lists(LINE, max_size=5),
    st.lists(GROUP_LINE, max_size=4),
    st.lists(TEXT, min_size=10, max_size=12, unique=True),
)
def test_resolve_agrees_with_a_model(
    tmp_path_factory: pytest.TempPathFactory, passwd: list[str], group: list[str], texts: list[str]
) -> None:
    directory = tmp_path_factory.getbasetemp() / "users-model"
    (directory / "etc").mkdir(parents=True, exist_ok=True)
    (directory / "etc" / "passwd").write_text("\n".join(passwd), encoding="utf-8")
    (directory / "etc" / "group").write_text("\n".join(group), encoding="utf-8")
    for text, answer in zip(texts, ask(directory, texts), strict=True):
        expected = model(text, passwd, group)
        assert answer == expected if expected is not None else len(answer) == 1, repr(text)


# -- files of a hostile image: CVE-2026-47262, CVE-2024-9676 ------------------------------------------


def replace(directory: Path, make: Callable[[Path], object]) -> Path:
    (directory / "etc" / "passwd").unlink()
    make(directory / "etc" / "passwd")
    return directory


def test_fifo_in_place_of_passwd_is_refused_at_once(root: Callable[..., Path]) -> None:
    directory = replace(root(), os.mkfifo)
    assert ask(directory, ["root"]) == [["/etc/passwd in the container is not a regular file"]]


def test_directory_in_place_of_passwd_is_refused(root: Callable[..., Path]) -> None:
    directory = replace(root(), os.mkdir)
    assert ask(directory, ["root"]) == [["/etc/passwd in the container is not a regular file"]]


def test_huge_passwd_is_refused_unread(root: Callable[..., Path]) -> None:
    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(1 << 40)

    directory = replace(root(), sparse)
    assert ask(directory, ["root"]) == [
        [f"/etc/passwd in the container is larger than {LIMIT} bytes"]
    ]


def test_link_leads_to_the_containers_own_files(root: Callable[..., Path]) -> None:
    directory = replace(root(), lambda path: path.symlink_to("../../../../etc/own"))
    (directory / "etc" / "own").write_text("me:x:42:43::/me:/bin/sh\n")
    assert ask(directory, ["me", "root"]) == [
        [42, 43, [43], "/me"],
        ["no such user in the container: root"],
    ]


def test_dangling_link_is_no_passwd(root: Callable[..., Path]) -> None:
    directory = replace(root(), lambda path: path.symlink_to("/nowhere"))
    assert ask(directory, ["5"]) == [[5, 0, [0], "/"]]


def test_link_loop_is_no_passwd(root: Callable[..., Path]) -> None:
    directory = replace(root(), lambda path: path.symlink_to("passwd"))
    assert ask(directory, ["5"]) == [[5, 0, [0], "/"]]


def test_endless_device_is_refused(root: Callable[..., Path]) -> None:
    """A bind of /dev/zero, as `-v` can make one: read it and it never ends."""

    def resolve() -> bytes:
        from rootless.linux import mount

        mount.mount("/dev/zero", str(directory / "etc" / "passwd"), None, mount.MS_BIND)
        os.chroot(directory)
        return document.dumps(_resolve("root"))

    directory = root()
    answer = document.loads(userns.call(SINGLE, resolve))
    assert answer == ["/etc/passwd in the container is not a regular file"]


def test_lines_with_nul_are_no_lines(root: Callable[..., Path]) -> None:
    """A home with NUL in it could not become HOME."""
    directory = root("evil:x:5:5::/a\0b:/bin/sh\nev\0il:x:6:6::/:/bin/sh\nok:x:7:7::/:/bin/sh\n")
    assert ask(directory, ["evil", "ok", "5"]) == [
        ["no such user in the container: evil"],
        [7, 7, [7], "/"],
        [5, 0, [0], "/"],
    ]


def test_bytes_that_are_no_text_are_names_like_others(root: Callable[..., Path]) -> None:
    directory = root()
    (directory / "etc" / "passwd").write_bytes(b"\xff:x:5:6::/\xfe:/bin/sh\n")
    name = os.fsdecode(b"\xff")

    def resolve() -> bytes:
        os.chroot(directory)
        user = users.resolve(name)
        return repr((user.uid, user.gid, os.fsencode(user.home))).encode()

    assert userns.call(SINGLE, resolve) == repr((5, 6, b"/\xfe")).encode()


def test_many_groups_are_all_found_once(root: Callable[..., Path]) -> None:
    lines = "".join(f"g{n}:x:{n % 500}:web\n" for n in range(20_000))
    directory = root("web:x:5:600::/:/bin/sh\n", lines)
    [[_, _, groups, _]] = ask(directory, ["web"])
    assert groups == [600, *range(500)]
