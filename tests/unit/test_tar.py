# SPDX-License-Identifier: Apache-2.0
"""The tar reader: what it understands, from our own bytes and from the archives of other programs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from rootless.storage import tar
from rootless.storage.tar import Damaged, Entry, Reader
from tests.lib import tarballs
from tests.lib.tarballs import archive, directory, file, gnu_long, header, link, pax, symlink


def chunks(data: bytes, size: int = 1 << 18) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, size: int = 1 << 18) -> list[tuple[Entry, bytes]]:
    reader = Reader(chunks(data, size))
    return [(entry, b"".join(map(bytes, reader.data()))) for entry in reader]


def first(*members: bytes) -> Entry:
    return read(archive(*members))[0][0]


def problem(*members: bytes, end: bytes = tarballs.END) -> str:
    with pytest.raises(Damaged) as caught:
        read(archive(*members, end=end))
    return caught.value.message


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 1 << 18])
def test_chunk_sizes_do_not_matter(size: int) -> None:
    data = archive(
        directory("d/"),
        file("d/a", b"a" * 1000),
        file("d/b"),
        pax({"path": "long"}),
        file("x", b"y"),
    )
    found = [(entry.name, entry.kind, content) for entry, content in read(data, size)]
    assert found == [
        (b"d", tar.DIRECTORY, b""),
        (b"d/a", tar.FILE, b"a" * 1000),
        (b"d/b", tar.FILE, b""),
        (b"long", tar.FILE, b"y"),
    ]


def test_data_nobody_reads_is_skipped() -> None:
    reader = Reader(chunks(archive(file("a", b"1" * 5000), file("b", b"2"))))
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_fields_of_header() -> None:
    entry = first(file("etc/passwd", b"x", mode=0o104755, owner=(1000, 2000), mtime=1234))
    assert (entry.mode, entry.uid, entry.gid) == (0o4755, 1000, 2000)
    assert (entry.size, entry.mtime) == (1, 1234 * 10**9)


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (b"0", tar.FILE),
        (b"\0", tar.FILE),
        (b"7", tar.FILE),
        (b"1", tar.LINK),
        (b"2", tar.SYMLINK),
        (b"3", tar.DEVICE),
        (b"4", tar.DEVICE),
        (b"5", tar.DIRECTORY),
        (b"6", tar.FIFO),
    ],
)
def test_types(flag: bytes, kind: str) -> None:
    assert first(header(b"name", flag, link=b"target")).kind == kind


def test_old_directory_is_file_with_slash() -> None:
    assert first(header(b"dir/", b"\0", form=(bytes(8), b""))).kind == tar.DIRECTORY


def test_links_have_no_data_whatever_size_says() -> None:
    found = read(archive(header(b"l", b"1", size=512, link=b"a"), file("b", b"x")))
    assert [entry.name for entry, _ in found] == [b"l", b"b"]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (b"/etc/x", b"etc/x"),
        (b"./etc//x/", b"etc/x"),
        (b"a/./b", b"a/b"),
        (b"./", b""),
        (b"/", b""),
        (b"..a/b..", b"..a/b.."),
        (b"caf\xe9\n", b"caf\xe9\n"),
    ],
)
def test_names_are_cleaned(raw: bytes, cleaned: bytes) -> None:
    assert first(directory(raw)).name == cleaned


def test_prefix_is_joined_in_posix_format_only() -> None:
    rest = tarballs.number(0, 8) * 2 + b"some/prefix"
    assert first(header(b"name", form=(tarballs.POSIX, rest))).name == b"some/prefix/name"
    assert first(header(b"name", form=(tarballs.GNU, rest))).name == b"name"


def test_base_256_numbers() -> None:
    entry = first(file("x", owner=(1 << 30, 3_000_000), mtime=-5))
    assert (entry.uid, entry.gid, entry.mtime) == (1 << 30, 3_000_000, -5 * 10**9)


def test_pax_replaces_fields() -> None:
    name = "d/" * 100 + "ü"
    told = {
        "path": name,
        "uid": "5000000",
        "gid": "7",
        "mtime": "12.5",
        "size": "3",
        "comment": "c",
    }
    entry, content = read(archive(pax(told), file("short", b"abc", size=0)))[0]
    assert entry.name == name.encode()
    assert (entry.uid, entry.gid, entry.mtime, content) == (5000000, 7, 12_500_000_000, b"abc")


def test_pax_last_record_wins_and_empty_one_withdraws() -> None:
    records = [tarballs.record("path", text) for text in ("one", "two")]
    assert first(pax(records), file("x")).name == b"two"
    assert first(pax([*records, tarballs.record("path", "")]), file("x")).name == b"x"


def test_pax_global_header_is_ignored() -> None:
    found = read(archive(pax({"path": "evil"}, b"g"), file("good")))
    assert [entry.name for entry, _ in found] == [b"good"]


def test_pax_xattrs_may_be_binary_or_empty() -> None:
    told = {"SCHILY.xattr.user.a": b"\0\n=\xff", "SCHILY.xattr.user.b": b""}
    assert first(pax(told), file("x")).xattrs == {b"user.a": b"\0\n=\xff", b"user.b": b""}
    assert first(file("x")).xattrs == {}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1.123456789123", 1_123_456_789),
        ("-1.5", -1_500_000_000),
        ("1e300", tar._MAX_INT),
        ("-inf", -tar._MAX_INT),
        ("nan", 0),
        ("4611686018427387905", tar._MAX_INT),
    ],
)
def test_pax_times_are_clamped(text: str, nanoseconds: int) -> None:
    assert first(pax({"mtime": text}), file("x")).mtime == nanoseconds


def test_gnu_long_name_and_link() -> None:
    name, target = b"n/" * 150 + b"n", b"t" * 150
    entry = first(gnu_long(target, b"K"), gnu_long(name), symlink("short", "short"))
    assert (entry.name, entry.link) == (name, target)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_tarfile(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as out:
        for name in ("short", "d" * 60 + "/" + "f" * 90):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = 3, 99, 12345
            out.addfile(info, io.BytesIO(b"abc"))
    found = [(entry.name, entry.uid, content) for entry, content in read(buffer.getvalue())]
    names = (b"short", b"d" * 60 + b"/" + b"f" * 90)
    assert found == [(name, 12345, b"abc") for name in names]


def test_end_of_archive_may_be_missing_at_block_boundary() -> None:
    assert len(read(archive(file("a"), end=b""))) == 1
    assert len(read(archive(file("a"), end=bytes(512)))) == 1
    assert read(b"") == []


def test_what_follows_the_end_is_counted_not_read() -> None:
    reader = Reader(chunks(archive(file("a")) + archive(file("b"))))
    assert [entry.name for entry in reader] == [b"a"]
    assert reader.drain() == 512 + 1024


# -- sparse files -----------------------------------------------------------------------------------


def sparse_header(pairs: list[tuple[int, int]], size: int, more: bool = False) -> bytes:
    stored = sum(length for _, length in pairs)
    area = b"".join(tarballs.number(n, 12) for pair in pairs[:4] for n in pair).ljust(96, b"\0")
    rest = tarballs.number(0, 8) * 2 + bytes(41) + area + bytes([more]) + tarballs.number(size, 12)
    return header(b"s", b"S", size=stored, form=(tarballs.GNU, rest))


def test_gnu_sparse() -> None:
    pairs = [(0, 2), (1000, 3), (5000, 0)]
    entry, content = read(archive(sparse_header(pairs, 5000), tarballs.padded(b"abcde")))[0]
    assert (entry.size, entry.extents, content) == (5000, pairs, b"abcde")


def test_gnu_sparse_continues_in_further_blocks() -> None:
    pairs = [(n * 10, 1) for n in range(10)]
    area = b"".join(tarballs.number(n, 12) for pair in pairs[4:] for n in pair)
    members = (sparse_header(pairs, 100, more=True), area.ljust(512, b"\0"))
    entry, content = read(archive(*members, tarballs.padded(b"0123456789")))[0]
    assert (entry.extents, content) == (pairs, b"0123456789")


def test_pax_sparse_versions() -> None:
    map_0 = [
        tarballs.record("GNU.sparse.size", "100"),
        tarballs.record("GNU.sparse.numblocks", "2"),
    ]
    for offset, length in ((0, 1), (50, 2)):
        map_0.append(tarballs.record("GNU.sparse.offset", str(offset)))
        map_0.append(tarballs.record("GNU.sparse.numbytes", str(length)))
    told_1 = {"GNU.sparse.name": "s", "GNU.sparse.size": "100", "GNU.sparse.map": "0,1,50,2"}
    told_2 = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": "100",
    }
    in_data = tarballs.padded(b"2\n0\n1\n50\n2\n") + b"abc"
    for members in (
        (pax(map_0), file("s", b"abc")),
        (pax(told_1), file("GNUSparseFile.1/s", b"abc")),
        (pax(told_2), file("GNUSparseFile.1/s", in_data)),
    ):
        entry, content = read(archive(*members))[0]
        assert (entry.name, entry.size, content) == (b"s", 100, b"abc")
        assert entry.extents == [(0, 1), (50, 2)]


@pytest.mark.parametrize(
    "pairs", [[(0, 2), (1, 2)], [(9, 2)], [(0, 1 << 40)], [(1 << 70, 1)], [(0, -1)]]
)
def test_sparse_map_that_does_not_fit_is_refused(pairs: list[tuple[int, int]]) -> None:
    text = ",".join(str(n) for pair in pairs for n in pair)
    told = {"GNU.sparse.size": "10", "GNU.sparse.map": text}
    assert problem(pax(told), file("s", b"abcd"))


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"..", b"../x", b"/../x", b"a/../../x", b"a/.."])
def test_dot_dot_is_refused(name: bytes) -> None:
    assert "path escapes root" in problem(file(name))
    assert "path escapes root" in problem(file("a"), link("b", name))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ((header(b""),), "empty name"),
        ((tarballs.with_checksum(header(), 1),), "checksum is wrong"),
        ((header(b"x", b"Z"),), "unknown type 'Z' of 'x'"),
        ((header(b"x", b"M"),), "unknown type"),
        ((header(b"x", size=b"12x"),), "not octal"),
        ((header(b"x", size=b"0o17"),), "not octal"),
        ((header(b"x", size=b"1_0"),), "not octal"),
        ((header(b"x", size=-1),), "negative size"),
        ((header(b"x", size=b"\x80" + b"\xff" * 11),), "out of range"),
        ((pax({"size": "-1"}), file("x")), "negative size"),
        ((pax({"size": "1e3"}), file("x")), "not a number"),
        ((pax({"path": "a\0b"}), file("x")), "NUL"),
        ((pax({"path": "a/" * 2100}), file("x")), "more than 4096 bytes"),
        ((pax({"path": "a/" * 1100}), file("x")), "more than 1024 components"),
        ((pax({"path": "a" * 256}), file("x")), "more than 255 bytes"),
        ((pax([b"5 a=b\n"]), file("x")), "wrong length"),
        ((pax([b"7 a=b\n"]), file("x")), "wrong length"),
        ((pax([b"999999999999999999999 a=b\n"]), file("x")), "no length"),
        ((pax([b"-6 a=b\n"]), file("x")), "no length"),
        ((pax([b"5 ab\n"]), file("x")), "no key"),
        ((pax([b"2 \n"]), file("x")), "wrong length"),
        ((pax({"mtime": "yesterday"}), file("x")), "not a time"),
        ((symlink("x", ""),), "no possible target"),
        ((pax({"linkpath": "a\0b"}), symlink("x", "y")), "no possible target"),
        ((header(b"x", b"x", size=1 << 40),), "larger than 1048576"),
        ((gnu_long(b"a"),), "ends after an extended header"),
        ((bytes(512), file("x")), "lone block of zeros"),
    ],
)
def test_damage_is_refused(members: tuple[bytes, ...], reason: str) -> None:
    message = problem(*members)
    assert reason in message
    assert "at byte" in message


def test_extended_headers_of_one_entry_are_bounded_together() -> None:
    big = pax({"comment": "x" * 1_000_000})
    assert "larger than 8388608 bytes" in problem(*[big] * 9, file("x"))


def test_signed_checksum_of_old_machines_is_accepted() -> None:
    block = header("ä".encode())
    counted = block[:148] + b" " * 8 + block[156:]
    total = sum(byte - 256 if byte > 127 else byte for byte in counted)
    assert first(tarballs.with_checksum(block, total)).name == "ä".encode()


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 1023, 1500])
def test_truncation_inside_an_entry_is_told_with_its_place(cut: int) -> None:
    assert "at byte" in problem(archive(file("a", b"x" * 1500), end=b"")[:cut], end=b"")
