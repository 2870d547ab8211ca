# SPDX-License-Identifier: Apache-2.0
"""Choosing an id map: subuid(5) tables, layouts of keep-id, keys, translation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.runtime import idmap
from rootless.runtime.idmap import IdMap

NAMES = ("me", "1001")
Range = tuple[int, int, int]


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", []),
        ("me:100000:65536\n", [(100000, 65536)]),
        ("1001:100000:65536\n", [(100000, 65536)]),
        ("me:100000:65536", [(100000, 65536)]),
        ("me:10:1\nyou:20:1\n1001:30:2\nme:40:3\n", [(10, 1), (30, 2), (40, 3)]),
        ("men:1:2\nm:1:2\n10011:1:2\n", []),
        ("me:100:10\nme:105:10\nme:110:5\n", [(100, 10), (110, 5)]),  # the second overlaps
        ("me:100:10\nme:100:10\n", [(100, 10)]),
        ("me:100:0\n", []),
        ("me:4294967290:6\n", []),  # would hold the id that means "none"
        ("me:99999999999999999999:1\n", []),
        ("me:-5:10\nme:a:10\nme:5\nme\n:::\nme:1:2:3\nme: 1:2\nme:0x10:1\n", []),
        ("# me:1:2\n\n  me:5:6  \n", [(5, 6)]),
        ("me:\N{ARABIC-INDIC DIGIT THREE}:5\n", []),
        ("me:1:2\r\nme:7:1\r\n", [(1, 2), (7, 1)]),
    ],
)
def test_read_ranges_takes_well_formed_lines_of_ours(
    tmp_path: Path, text: str, ranges: list[tuple[int, int]]
) -> None:
    file = tmp_path / "subuid"
    file.write_text(text, encoding="utf-8", newline="")
    assert idmap.read_ranges(str(file), NAMES) == ranges


def test_read_ranges_of_undecodable_bytes_skips_them(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_bytes(b"\xff\xfe:1:2\nme:\xff:1\nme:5:6\n")
    assert idmap.read_ranges(str(file), NAMES) == [(5, 6)]


def test_read_ranges_of_a_missing_file_is_none(tmp_path: Path) -> None:
    assert idmap.read_ranges(str(tmp_path / "missing"), NAMES) == []


@pytest.mark.parametrize(
    ("own", "ranges", "lines"),
    [
        (0, [(100000, 65536)], ((0, 1001, 1), (1, 100000, 65536))),
        (1001, [(100000, 65536)], ((0, 100000, 1001), (1001, 1001, 1), (1002, 101001, 64535))),
        (65536, [(100000, 65536)], ((0, 100000, 65536), (65536, 1001, 1))),
        (70000, [(100000, 65536)], ((0, 100000, 65536), (70000, 1001, 1))),
        (0, [(10, 2), (20, 3)], ((0, 1001, 1), (1, 10, 2), (3, 20, 3))),
        (2, [(10, 2), (20, 3)], ((0, 10, 2), (2, 1001, 1), (3, 20, 3))),
        (3, [(10, 2), (20, 3)], ((0, 10, 2), (2, 20, 1), (3, 1001, 1), (4, 21, 2))),
        (1, [(10, 1)], ((0, 10, 1), (1, 1001, 1))),
        (0, [(10, 1), (20, 1), (30, 1)], ((0, 1001, 1), (1, 10, 1), (2, 20, 1), (3, 30, 1))),
    ],
)
def test_subordinate_ranges_lie_around_the_caller(
    own: int, ranges: list[tuple[int, int]], lines: tuple[Range, ...]
) -> None:
    assert idmap.around(own, 1001, ranges) == lines


@st.composite
def subordinate_ranges(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Some ranges above every ordinary uid, in any order, without overlap."""
    ranges, first = [], 100_000
    for gap, count in draw(
        st.lists(st.tuples(st.integers(0, 99), st.integers(1, 999)), max_size=6)
    ):
        ranges.append((first + gap, count))
        first += gap + count
    return draw(st.permutations(ranges))


@given(subordinate_ranges(), st.integers(0, 5000))
def test_layout_maps_every_id_once_and_the_caller_where_asked(
    ranges: list[tuple[int, int]], own: int
) -> None:
    lines = idmap.around(own, 1001, ranges)
    pairs = [(inside + i, outside + i) for inside, outside, n in lines for i in range(n)]
    given_ids = {first + i for first, count in ranges for i in range(count)}
    assert len({inside for inside, _ in pairs}) == len(pairs)
    assert sorted(outside for _, outside in pairs) == sorted({*given_ids, 1001})
    assert (own, 1001) in pairs
    others = sorted(inside for inside, _ in pairs if inside != own)
    gap = own if own <= len(others) else len(pairs)
    assert others == [i for i in range(len(others) + (gap < len(pairs))) if i != gap]
    id_map = IdMap(lines, lines, "")
    assert all(id_map.to_host_uid(inside) == outside for inside, outside in pairs)
    assert id_map.to_host_gid(max(inside for inside, _ in pairs) + 1) is None


def test_single_id_is_single_and_its_key_says_so() -> None:
    single = IdMap(((0, 1001, 1),), ((0, 1001, 1),), "")
    assert (single.is_single, single.key) == (True, "single")
    assert (single.to_host_uid(0), single.to_host_uid(1)) == (1001, None)
    assert idmap.host().key == "single"


def test_one_uid_with_many_gids_is_not_single() -> None:
    assert not IdMap(((0, 1001, 1),), ((0, 1001, 2),), "").is_single


def test_key_names_ranges_and_differs_with_them() -> None:
    uids: tuple[Range, ...] = ((0, 1001, 1), (1, 100000, 65536))
    assert IdMap(uids, uids, "").key == "u0.1001.1-1.100000.65536"
    gids: tuple[Range, ...] = ((0, 1001, 1), (1, 200000, 65536))
    assert IdMap(uids, gids, "").key == "u0.1001.1-1.100000.65536_g0.1001.1-1.200000.65536"


def test_key_of_many_ranges_is_a_file_name() -> None:
    lines = tuple((i, 100_000 + 2 * i, 1) for i in range(300))
    key = IdMap(lines, lines, "").key
    assert len(key) < 200
    assert key != IdMap(lines[:-1], lines[:-1], "").key
    assert "/" not in key


@pytest.mark.parametrize("text", ["", "auto", "default"])
def test_parse_of_the_default_maps_root_to_the_caller(text: str) -> None:
    assert idmap.parse(text).to_host_uid(0) == os.getuid()


def test_parse_host_keeps_only_the_callers_ids() -> None:
    assert idmap.parse("host").uids == ((os.getuid(), os.getuid(), 1),)


@pytest.mark.parametrize(
    ("text", "uid", "gid"),
    [
        ("keep-id", os.getuid(), os.getgid()),
        ("keep-id:uid=200,gid=300", 200, 300),
        ("keep-id:gid=300", os.getuid(), 300),
        ("keep-id:uid=0", 0, os.getgid()),
    ],
)
def test_parse_keep_id_puts_the_caller_there(text: str, uid: int, gid: int) -> None:
    id_map = idmap.parse(text)
    assert id_map.to_host_uid(uid) == os.getuid()
    assert id_map.to_host_gid(gid) == os.getgid()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "host:1", "auto:size=5", "keep-id:uid", "keep-id:uid=", "keep-id:uid=-1",
        "keep-id:uid=x", "keep-id:size=5", "keep-id:uid=1,", "keep-id:uid=1:gid=2",
        "keep-id:uid=4294967295", "keep-id:gid=99999999999", "keep-id:uid=\N{SUPERSCRIPT TWO}",
    ],
)  # fmt: skip
def test_parse_refuses_other_modes(text: str) -> None:
    with pytest.raises(UsageError, match="--userns") as failed:
        idmap.parse(text)
    assert failed.value.hint


def test_find_program_takes_only_absolute_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "some-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".:")
    assert idmap.find_program("some-program") == ""
    monkeypatch.setenv("PATH", f".:{tmp_path}")
    assert idmap.find_program("some-program") == str(program)
    program.chmod(0o644)
    assert idmap.find_program("some-program") == ""


def test_read_tells_the_map_of_a_process() -> None:
    own = idmap.read("/proc/self")
    lines = Path("/proc/self/uid_map").read_text().split()
    assert [str(number) for line in own.uids for number in line] == lines
