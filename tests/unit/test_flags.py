# SPDX-License-Identifier: Apache-2.0
"""Values of docker's flags: what each grammar takes, and what it says about the rest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import flags
from rootless.engine.request import Request
from rootless.errors import UsageError

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1", 1), ("64m", 64 * MIB), ("64M", 64 * MIB), ("64mb", 64 * MIB),
        ("64MiB", 64 * MIB), ("1.5g", 3 << 29), ("10KiB", 10240), ("10kb", 10240), ("5b", 5),
        ("2t", 2 << 40), ("1p", 1 << 50), ("64 m", 64 * MIB), (".5k", 512),
    ],
)  # fmt: skip
def test_size_is_bytes(text: str, value: int) -> None:
    assert flags.size(text, "--memory") == value


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "m", "b", "kb", "-1", "-0", "+5", "1e3", "1_000", "nan", "inf", "0x10", "1.2.3", "64mm",
        "64bb", "1i", "1 000", "64 mi b", "\N{ARABIC-INDIC DIGIT THREE}", "9999999999999999p", ".",
    ],
)  # fmt: skip
def test_size_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="for --memory: not a size") as failed:
        flags.size(text, "--memory")
    assert failed.value.hint == "use --memory 64m"


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("1.5", 1.5), (".25", 0.25)])
def test_cpus_is_a_number(text: str, value: float) -> None:
    assert flags.cpus(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "nan", "inf", "1e1", "1_0", "65536"])
def test_cpus_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="for --cpus"):
        flags.cpus(text)


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("nofile=10", 10, 10),
        ("nofile=10:20", 10, 20),
        ("nofile=10:-1", 10, -1),
        ("core=unlimited", -1, -1),
        ("core=-1:-1", -1, -1),
        ("core=0", 0, 0),
    ],
)
def test_ulimit_is_a_member_of_rlimits(text: str, soft: int, hard: int) -> None:
    kind = "RLIMIT_" + text.partition("=")[0].upper()
    assert flags.ulimit(text) == {"type": kind, "soft": soft, "hard": hard}


@pytest.mark.parametrize(
    "text",
    [
        "", "nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=:1", "nofile=1:2:3", "nofile=20:10",
        "nofile=-1:10", "nofile=-2", "NOFILE=1", "nosuch=1", "=5", "nofile=1.5",
        "nofile=99999999999999999999", "nofile=\N{SUPERSCRIPT TWO}",
    ],
)  # fmt: skip
def test_ulimit_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="--ulimit"):
        flags.ulimit(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("100", 100), ("-1", 0)])
def test_count(text: str, value: int) -> None:
    assert flags.count(text, "--pids-limit") == value


@pytest.mark.parametrize("text", ["", "-2", "1.5", "x", "9" * 19, "\N{SUPERSCRIPT TWO}"])
def test_count_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="for --pids-limit: not a number"):
        flags.count(text, "--pids-limit")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no-new-privileges", True),
        ("no-new-privileges=true", True),
        ("no-new-privileges:true", True),
        ("no-new-privileges=false", False),
    ],
)
def test_security_option(text: str, value: bool) -> None:
    request = Request("image", [])
    flags.security([text], request)
    assert request.no_new_privileges is value


@pytest.mark.parametrize(
    "text", ["", "no-new-privileges=maybe", "nosuch=x", "label=user:x", "seccomp"]
)
def test_security_option_that_is_not_there_is_an_error(text: str) -> None:
    """CVE-2025-65105: what cannot be applied is never passed over in silence."""
    with pytest.raises(UsageError, match="is not supported"):
        flags.security([text], Request("image", []))


# -- environments ------------------------------------------------------------------------------------


def test_environment_takes_values_the_callers_and_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRESENT", "here")
    monkeypatch.delenv("ABSENT", raising=False)
    entries = ["A=1", "B=", "C=x=y", "PRESENT", "ABSENT"]
    assert flags.environment(entries, []) == (
        ["A=1", "B=", "C=x=y", "PRESENT=here"],
        ["ABSENT"],
    )


@pytest.mark.parametrize("entry", ["", "=", "=x"])
def test_environment_refuses_an_entry_without_a_name(entry: str) -> None:
    with pytest.raises(UsageError, match="no name before the ="):
        flags.environment([entry], [])


def test_environment_file_comes_before_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\n  A=1 \nB='q' # kept\nC=\\n\n   # more\nD=\u2028\f|\r\n")
    found, unset = flags.environment(["A=2"], [str(file)])
    assert found == ["A=1 ", "B='q' # kept", "C=\\n", "D=\u2028\f|", "A=2"]
    assert unset == []


def test_environment_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbfA=1\n")
    assert flags.environment([], [str(file)])[0] == ["A=1"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"A=1\n=x\n", ":2: the name '' is empty"),
        (b"A B=1\n", ":1: the name 'A B' is empty or has spaces in it"),
        (b"\xff=1\n", "not utf-8"),
        (b"A=\0\n", ":1: .*NUL"),
    ],
)
def test_environment_file_refuses(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=message):
        flags.environment([], [str(file)])


@pytest.mark.parametrize(("name", "reason"), [("missing", "no such file"), (".", "is a directory")])
def test_environment_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"cannot read --env-file .*: {reason}"):
        flags.environment([], [str(tmp_path / name)])


def test_pairs() -> None:
    assert flags.pairs(["a=1", "b", "c=x=y", "a=2"], "--label") == {"a": "2", "b": "", "c": "x=y"}
    with pytest.raises(UsageError, match='invalid argument "=x" for --label'):
        flags.pairs(["=x"], "--label")


# -- mounts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("", ["rbind", "rprivate"]),
        (":ro", ["rbind", "rprivate", "ro"]),
        (":rw", ["rbind", "rprivate", "rw"]),
        (":ro,rslave", ["rbind", "rslave", "ro"]),
        (":z,ro,cached", ["rbind", "rprivate", "ro"]),
    ],
)
def test_volume(tmp_path: Path, suffix: str, options: list[str]) -> None:
    assert flags.volume(f"{tmp_path}:/data{suffix}") == {
        "destination": "/data",
        "type": "bind",
        "source": str(tmp_path),
        "options": options,
    }


def test_volume_source_is_relative_to_the_caller_and_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert flags.volume("./new/one:/data")["source"] == str(tmp_path / "new" / "one")
    assert (tmp_path / "new" / "one").is_dir()
    assert flags.volume("~/two:/data")["source"] == str(tmp_path / "home" / "two")
    (tmp_path / "dangling").symlink_to("nowhere")
    flags.volume("./dangling:/data")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/only", "invalid argument"),
        ("/a:/b:ro:x", "invalid argument"),
        (":/b", "invalid argument"),
        ("/a:", "invalid argument"),
        ("/a:/b:", "invalid argument"),
        ("name:/b", "named volumes are not supported yet: name"),
        ("/a:b", "the target 'b' is not an absolute path"),
        ("/a:/", "the target cannot be '/'"),
        ("/a:/b/..", "the target cannot be '/'"),
        ("/a://", "the target cannot be '/'"),
        ("/a:/proc", "/proc cannot be mounted because it is inside /proc"),
        ("/a:/proc/self/attr", "cannot be mounted because it is inside /proc"),
        ("/a://proc/../proc/1", "/proc/1 cannot be mounted"),
        ("/:/b:nosuch", 'invalid option "nosuch"'),
        ("/dev/null/x:/b", "cannot make the bind source /dev/null/x: not a directory"),
    ],
)
def test_volume_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        flags.volume(text)


def test_volume_on_files_of_proc_that_tools_replace(tmp_path: Path) -> None:
    assert flags.volume(f"{tmp_path}:/proc/meminfo")["destination"] == "/proc/meminfo"
    # A sibling with the same prefix is no file of /proc.
    assert flags.volume(f"{tmp_path}:/process")["destination"] == "/process"


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,source=/,target=/m", {"type": "bind", "options": ["rbind", "rprivate"]}),
        ("type=bind,src=/,dst=/m,ro", {"options": ["rbind", "rprivate", "ro"]}),
        ("type=bind,src=/,destination=/m,readonly=false", {"options": ["rbind", "rprivate"]}),
        ("type=bind,src=/,dst=/m,bind-propagation=rslave", {"options": ["rbind", "rslave"]}),
        ("type=bind,src=/,dst=/m,bind-recursive=disabled", {"options": ["bind", "rprivate"]}),
        ("type=bind,src=/,dst=/m,bind-nonrecursive", {"options": ["bind", "rprivate"]}),
        (
            "type=tmpfs,dst=/m",
            {"type": "tmpfs", "options": ["nosuid", "nodev", "noexec", "mode=1777"]},
        ),
        (
            "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=700,ro",
            {"options": ["nosuid", "nodev", "noexec", f"size={MIB}", "mode=700", "ro"]},
        ),
    ],
)
def test_mount(text: str, mount: dict[str, Any]) -> None:
    made = flags.mount(text)
    assert made["destination"] == "/m"
    assert {key: made[key] for key in mount} == mount


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,source=/", "no target"),
        ("type=bind,target=/m", "no source"),
        ("type=bind,source=,target=/m", "no source"),
        ("type=bind,source=/,target=m", "not an absolute path"),
        ("type=bind,source=/,source=/,target=/m", "source stands twice"),
        ("type=bind,source=/,src=/,target=/m", "source stands twice"),
        ("type=bind,source=/no/such,target=/m", "bind source path does not exist: /no/such"),
        ("type=bind,source=/,target=/m,ro=maybe", "'maybe' is neither true nor false"),
        ("type=bind,source=/,target=/m,bind-propagation=x", "invalid mount option"),
        ("type=bind,source=/,target=/m,bind-recursive=x", "invalid mount option"),
        ("type=bind,source=/,target=/m,tmpfs-size=1m", "unknown key for type bind: tmpfs-size"),
        ("type=tmpfs,target=/m,source=/", "unknown key for type tmpfs: source"),
        ("type=tmpfs,target=/m,tmpfs-mode=9", "tmpfs-mode is not an octal number"),
        ("type=tmpfs,target=/m,tmpfs-size=x", "not a size"),
        ("type=volume,target=/m", "type=volume is not supported yet"),
        ("target=/m", "type=volume is not supported yet"),
        ("type=bind,source=/,target=/proc/1", "inside /proc"),
        ("", "no target"),
    ],
)
def test_mount_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        flags.mount(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/t", ["nosuid", "nodev", "noexec", "mode=1777"]),
        ("/t:size=1m,mode=755", [f"size={MIB}", "mode=755"]),
        ("/t:exec,uid=5,gid=6", ["exec", "uid=5", "gid=6"]),
        ("/t:size=50%", ["size=50%"]),
        ("/t:ro,noatime", ["ro", "noatime"]),
    ],
)
def test_tmpfs(text: str, options: list[str]) -> None:
    made = flags.tmpfs(text)
    assert made["destination"] == "/t"
    assert made["options"][-len(options) :] == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t", "not an absolute path"),
        ("/", "the target cannot be '/'"),
        ("/proc/x", "inside /proc"),
        ("/t:nosuch", 'invalid option "nosuch"'),
        ("/t:size=x", "not a size"),
        ("/t:mode=", "invalid option"),
        ("/t:mode=8", "invalid option"),
        ("/t:uid=x", "invalid option"),
        ("/t:uid=\N{SUPERSCRIPT TWO}", "invalid option"),
        ("/t:size=x%", "invalid option|not a size"),
        ("/t:,", 'invalid option ""'),
    ],
)
def test_tmpfs_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        flags.tmpfs(text)


def test_two_mounts_on_one_target_are_refused() -> None:
    flags.check_targets([flags.tmpfs("/a"), flags.tmpfs("/a/b")])
    with pytest.raises(UsageError, match="duplicate mount point: /a"):
        flags.check_targets([flags.tmpfs("/a"), flags.volume("/:/b/../a")])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name:10.0.0.1", "10.0.0.1\tname\n"),
        ("name=10.0.0.1", "10.0.0.1\tname\n"),
        ("name:::1", "::1\tname\n"),
        ("name:[::1]", "::1\tname\n"),
        ("name=fe80::1", "fe80::1\tname\n"),
    ],
)
def test_add_host(text: str, line: str) -> None:
    assert flags.add_host(text) == line


@pytest.mark.parametrize(
    "text",
    ["", "name", "name:", ":1.2.3.4", "name:1.2.3", "name:host", "a\nb:1.2.3.4", "a b:1.2.3.4"],
)
def test_add_host_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="for --add-host"):
        flags.add_host(text)


def test_bind_source_keeps_its_own_links() -> None:
    """abspath, not realpath: what a link names is decided when it is mounted."""
    assert (
        flags.mount(f"type=bind,source={os.path.sep}proc/self,target=/m")["source"] == "/proc/self"
    )
