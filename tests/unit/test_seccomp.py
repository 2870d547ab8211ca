# SPDX-License-Identifier: Apache-2.0
"""The default profile says what it should; profiles of either form become the program they describe."""

from __future__ import annotations

import collections
import errno
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostUnable, Invalid, NotFound
from rootless.linux import abi, capability, seccomp
from rootless.runtime import libseccomp, seccomp_cache, seccomp_prelude
from rootless.runtime import seccomp as profiles
from tests.lib import bpf
from tests.lib.sources import CHECKOUT

PROFILE = str(CHECKOUT / "helpers" / "seccomp.json")
DEFAULT = capability.mask(
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"]
    + ["CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]
)
SYS_ADMIN = DEFAULT | capability.mask(["CAP_SYS_ADMIN"])
EVERYTHING = (1 << len(capability.NAMES)) - 1
X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"

pytestmark = pytest.mark.needs("libseccomp")
on_x86_64 = pytest.mark.skipif(abi.MACHINE != "x86_64", reason="numbers of x86-64")


def number(name: str, architecture: str) -> int | None:
    """The number of a call on an architecture, None where it has none; x32 left out."""
    if libseccomp.resolve(name) is None:
        return seccomp_prelude.number(name, architecture)
    return libseccomp.resolve_on(seccomp_prelude.AUDIT[architecture], name)


def answer(program: bytes, name: str, *arguments: int, on: str = abi.SECCOMP_NAME) -> str:
    """What a program says to a call, in words."""
    found = number(name, on)
    assert found is not None, name
    return bpf.describe(bpf.action(program, on, found, *arguments))


@functools.cache
def compiled(capabilities: int = DEFAULT, architecture: str = "") -> seccomp_cache.Program:
    """The default profile as a program."""
    resolved = profiles.resolve(profiles.read(PROFILE), capabilities, architecture)
    return profiles.compile_profile(resolved)


def small(*groups: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A linux.seccomp that refuses all but what the groups say."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": list(groups),
        **others,
    }


def allow(*names: str, **others: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **others}


def condition(index: int, operator: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}


# -- the default profile -----------------------------------------------------------------------------


def test_default_profile_names_only_known_calls() -> None:
    names = {name for group in profiles.read(PROFILE)["syscalls"] for name in group["names"]}
    unknown = {
        name
        for name in names
        if libseccomp.resolve(name) is None and not seccomp_prelude.known(name)
    }
    # Of architectures this machine's library may be too old for.
    assert unknown <= {"riscv_hwprobe", "s390_guarded_storage", "s390_sthyi"}


@pytest.mark.parametrize("capabilities", [0, DEFAULT, SYS_ADMIN, EVERYTHING])
@pytest.mark.parametrize("architecture", ["", "386", "s390x"])
def test_default_profile_resolves_to_the_specification(
    capabilities: int, architecture: str
) -> None:
    resolved = profiles.resolve(profiles.read(PROFILE), capabilities, architecture)
    profiles.check(resolved)
    assert set(resolved) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert all(
        set(group) <= {"names", "action", "errnoRet", "args"} for group in resolved["syscalls"]
    )


def test_default_profile_has_one_answer_for_each_call() -> None:
    """No call without conditions stands in two groups that apply at once."""
    for capabilities in (0, DEFAULT, SYS_ADMIN, EVERYTHING):
        resolved = profiles.resolve(profiles.read(PROFILE), capabilities)
        answers = collections.defaultdict(set)
        for group in resolved["syscalls"]:
            for name in group["names"] if not group.get("args") else ():
                answers[name].add((group["action"], group.get("errnoRet")))
        assert {name for name, said in answers.items() if len(said) > 1} == set()


@on_x86_64
@pytest.mark.parametrize(
    ("capabilities", "counts"),
    [
        # allowed, allowed for some arguments, EPERM, ENOSYS; docs/internals/seccomp.md has them too
        (0, (315, 3, 42, 25)),
        (DEFAULT, (316, 3, 41, 25)),
        (SYS_ADMIN, (343, 2, 20, 20)),
        (EVERYTHING, (349, 2, 14, 20)),
    ],
)
def test_default_profile_counts_are_golden(
    capabilities: int, counts: tuple[int, int, int, int]
) -> None:
    program = compiled(capabilities)
    filtered = {"socket", "personality"} | ({"clone"} if capabilities & 1 << 21 == 0 else set())
    by_argument = {number(name, X86_64) for name in filtered}
    calls = {*range(337), *range(424, 472)}
    said = collections.Counter(
        bpf.describe(bpf.action(program, X86_64, call)) for call in calls - by_argument
    )
    found = (said["allow"], len(by_argument), said["errno 1"], said["errno 38"])
    assert found == counts
    assert sum(counts) == len(calls)


ORDINARY = """
    accept4 cachestat clock_nanosleep close_range copy_file_range epoll_pwait2 execveat faccessat2
    fchmodat2 file_getattr file_setattr futex futex_requeue futex_wait futex_waitv futex_wake
    get_mempolicy getrandom getxattrat io_setup ioctl landlock_add_rule landlock_create_ruleset
    landlock_restrict_self listmount listxattrat map_shadow_stack mbind membarrier memfd_create
    memfd_secret mknodat mseal name_to_handle_at openat2 pidfd_getfd pidfd_open pidfd_send_signal
    pkey_alloc prctl preadv2 process_madvise process_mrelease process_vm_readv process_vm_writev
    ptrace removexattrat renameat2 rseq rseq_slice_yield rt_sigreturn seccomp sendmsg
    set_mempolicy_home_node set_robust_list setxattrat socketpair splice statmount statx vmsplice
"""
REFUSED = """
    acct bpf clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
    init_module ioperm iopl kcmp kexec_file_load kexec_load lookup_dcookie mount mount_setattr
    move_mount open_by_handle_at open_tree perf_event_open pivot_root quotactl quotactl_fd reboot
    setdomainname sethostname setns settimeofday swapoff swapon syslog umount2 unshare userfaultfd
    vhangup
"""
ABSENT = "add_key clone3 io_uring_enter io_uring_register io_uring_setup keyctl request_key uselib"
EVERYWHERE = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")


@pytest.mark.parametrize("architecture", EVERYWHERE)
@pytest.mark.parametrize(
    ("names", "wanted"), [(ORDINARY, "allow"), (REFUSED, "errno 1"), (ABSENT, "errno 38")]
)
def test_default_profile_answers(names: str, wanted: str, architecture: str) -> None:
    resolved = profiles.resolve(profiles.read(PROFILE), DEFAULT)
    resolved["architectures"] = [architecture]
    program = profiles.compile_profile(resolved)
    there = [name for name in names.split() if number(name, architecture) is not None]
    assert {name: answer(program, name, on=architecture) for name in there} == dict.fromkeys(
        there, wanted
    )


@pytest.mark.parametrize("call", [472, 500, 9999, 0x3FFFFFFF])
def test_default_profile_has_not_heard_of_newer_call(call: int) -> None:
    assert bpf.describe(bpf.action(compiled(), abi.SECCOMP_NAME, call)) == "errno 38"


@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_default_profile_closes_two_address_families(high: int) -> None:
    """socket(2) takes an int: what stands above it changes nothing for the kernel."""
    said = {family: answer(compiled(), "socket", family | high) for family in range(48)}
    assert said == {**dict.fromkeys(range(48), "allow"), 38: "errno 1", 40: "errno 1"}


@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_program_says_what_the_document_says(architecture: str) -> None:
    """Each number an architecture has, as long as no argument matters."""
    resolved = profiles.resolve(profiles.read(PROFILE), DEFAULT)
    resolved["architectures"] = [architecture]
    program = profiles.compile_profile(resolved)
    # The library keeps to itself which of these of 32-bit x86 are socketcall(2)'s and ipc(2)'s.
    multiplexed = {337, 345, *range(359, 374), *range(393, 403)} if architecture == X86 else set()
    wanted = dict.fromkeys(set(range(480)) - multiplexed, "errno 38")
    for group in resolved["syscalls"]:
        for call in {number(name, architecture) for name in group["names"]} - {None}:
            said = "allow" if group["action"] == "SCMP_ACT_ALLOW" else f"errno {group['errnoRet']}"
            wanted[call or 0] = "" if group.get("args") else said
    found = {
        call: said and bpf.describe(bpf.action(program, architecture, call))
        for call, said in wanted.items()
    }
    assert found == wanted


@on_x86_64
@pytest.mark.parametrize(
    ("image", "wanted"), [("", "errno 1"), ("amd64", "errno 1"), ("386", "allow")]
)
def test_socketcall_is_there_for_32_bit_images_only(image: str, wanted: str) -> None:
    program = compiled(DEFAULT, image)
    assert {answer(program, "socketcall", call, on=X86) for call in range(1, 21)} == {wanted}


def test_clone_needs_capability_for_namespaces() -> None:
    thread, without, with_it = 0x3D0F00, compiled(), compiled(SYS_ADMIN)
    assert answer(without, "clone", thread) == "allow"
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(without, "clone", flag | 17) == "errno 1"
        assert answer(with_it, "clone", flag | 17) == "allow"


@pytest.mark.parametrize(
    ("persona", "wanted"),
    [(0, "allow"), (8, "allow"), (0x20000, "allow"), (0x20008, "allow"), (0xFFFFFFFF, "allow")]
    + [(0x40000, "errno 38"), (0x400000, "errno 38"), (1 << 32, "errno 38")],
)
def test_personality_is_one_of_five(persona: int, wanted: str) -> None:
    assert answer(compiled(), "personality", persona) == wanted


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("bpf", ["CAP_BPF"]), ("bpf", ["CAP_SYS_ADMIN"]), ("perf_event_open", ["CAP_PERFMON"]),
        ("syslog", ["CAP_SYSLOG"]), ("open_by_handle_at", ["CAP_DAC_READ_SEARCH"]),
        ("kcmp", ["CAP_SYS_PTRACE"]), ("move_pages", ["CAP_SYS_NICE"]), ("reboot", ["CAP_SYS_BOOT"]),
        ("chroot", ["CAP_SYS_CHROOT"]), ("mount", ["CAP_SYS_ADMIN"]), ("clone3", ["CAP_SYS_ADMIN"]),
        ("unshare", ["CAP_SYS_ADMIN"]), ("setns", ["CAP_SYS_ADMIN"]),
    ],
)  # fmt: skip
def test_capability_opens_call(name: str, capabilities: list[str]) -> None:
    assert answer(compiled(0), name) in ("errno 1", "errno 38")
    assert answer(compiled(capability.mask(capabilities)), name) == "allow"


# -- docker's form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "kept"),
    [
        ({"includes": {"caps": ["CAP_KILL"]}}, True),
        ({"includes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["mips", abi.GO_NAME]}}, True),
        ({"includes": {"arches": ["mips"]}}, False),
        ({"excludes": {"arches": [abi.GO_NAME]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "99.0"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": None, "excludes": {}}, True),
    ],
)
def test_condition_keeps_group(group: dict[str, Any], kept: bool) -> None:
    profile = small(allow("read", comment="x", **group))
    resolved = profiles.resolve(profile, capability.mask(["CAP_KILL"]))
    assert resolved["syscalls"] == ([allow("read")] if kept else [])


def test_single_name_of_old_profiles_is_understood() -> None:
    resolved = profiles.resolve(small({"name": "read", "action": "SCMP_ACT_ALLOW"}), 0)
    assert resolved["syscalls"] == [allow("read")]


def test_profile_of_the_specification_resolves_to_itself() -> None:
    spelled = small(allow("read", args=[condition(0, "EQ", 0)]), architectures=[X86_64], flags=[])
    assert profiles.resolve(spelled, 0) == spelled


def test_unreadable_profile_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        seccomp_cache.program(0, str(tmp_path / "none.json"))
    with pytest.raises(NotFound, match="is a directory"):
        profiles.read(str(tmp_path))


# -- the specification's form ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ([], "linux.seccomp: not an object"),
        ({}, "linux.seccomp.defaultAction: no such action: None"),
        ({"defaultAction": ["x"]}, "linux.seccomp.defaultAction: no such action"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY"),
        (small(defaultErrnoRet=-1), "linux.seccomp.defaultErrnoRet: not a number"),
        (small(defaultErrnoRet=True), "linux.seccomp.defaultErrnoRet: not a number"),
        (small(architectures=["SCMP_ARCH_VAX"]), r"linux.seccomp.architectures\[0\]: is not known"),
        (small(architectures="SCMP_ARCH_X86"), "linux.seccomp.architectures: not a list"),
        (small(flags=["NEW_LISTENER"]), r"linux.seccomp.flags\[0\]: is not known"),
        (small(syscalls={}), ""),
        (small(syscalls={"a": 1}), "linux.seccomp.syscalls: not a list"),
        (small({"action": "SCMP_ACT_ALLOW"}), r"linux.seccomp.syscalls\[0\].names: is missing"),
        (small(allow()), r"linux.seccomp.syscalls\[0\].names: is missing"),
        (small(allow("read", "")), r"linux.seccomp.syscalls\[0\].names\[1\]: not a name"),
        (small(allow("read", errnoRet=1)), r"syscalls\[0\].errnoRet: SCMP_ACT_ALLOW takes no errno"),
        (small({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}), "errnoRet"),
        (small(allow("read", args=[condition(6, "EQ", 0)])), r"args\[0\].index: not a number"),
        (small(allow("read", args=[condition(0, "EQ", -1)])), r"args\[0\].value: not a number"),
        (small(allow("read", args=[condition(0, "EQ", 1 << 64)])), r"args\[0\].value"),
        (small(allow("read", args=[condition(0, "LIKE", 0)])), r"args\[0\].op: no such operator"),
        (small({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}), "listenerPath: is missing"),
        (small(listenerMetadata="x"), "listenerMetadata: is set without a listenerPath"),
        (small(listenerPath="agent.sock"), "listenerPath: not an absolute path"),
        (small({"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}, listenerPath="/x"), "sendmsg"),
        (small({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}, listenerPath="/x"), "write"),
    ],
)  # fmt: skip
def test_wrong_profile_is_invalid_at_its_place(spelled: Any, message: str) -> None:
    if not message:
        return profiles.check(spelled)
    with pytest.raises(Invalid, match=message):
        profiles.check(spelled)
    return None


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (None, seccomp.FILTER_FLAG_SPEC_ALLOW),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"], seccomp.FILTER_FLAG_LOG),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
    ],
)
def test_flags_become_those_of_the_kernel(flags: list[str] | None, wanted: int) -> None:
    spelled = small(**({} if flags is None else {"flags": flags}))
    assert profiles.compile_profile(spelled).flags == wanted


# -- programs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ({"action": "SCMP_ACT_ALLOW"}, "allow"),
        ({"action": "SCMP_ACT_LOG"}, "log"),
        ({"action": "SCMP_ACT_KILL"}, "kill thread"),
        ({"action": "SCMP_ACT_KILL_THREAD"}, "kill thread"),
        ({"action": "SCMP_ACT_KILL_PROCESS"}, "kill process"),
        ({"action": "SCMP_ACT_TRAP"}, "trap"),
        ({"action": "SCMP_ACT_ERRNO"}, "errno 1"),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 5}, "errno 5"),
        ({"action": "SCMP_ACT_TRACE", "errnoRet": 7}, "trace 7"),
        ({"action": "SCMP_ACT_NOTIFY"}, "notify"),
    ],
)
def test_action_is_what_the_program_answers(action: dict[str, Any], wanted: str) -> None:
    """For a call of the library's and for one of the prelude's."""
    group = {"names": ["mkdirat", "rseq_slice_yield"], **action}
    program = profiles.compile_profile(small(group, listenerPath="/agent"))
    assert answer(program, "mkdirat") == wanted
    assert answer(program, "rseq_slice_yield") == wanted
    assert answer(program, "read") == "errno 38"


@pytest.mark.parametrize(
    ("operator", "value", "second", "holds", "fails"),
    [
        ("EQ", 7, 0, [7], [6, 8, 7 | 1 << 32]),
        ("NE", 7, 0, [6, 8], [7]),
        ("LT", 7, 0, [0, 6], [7, 1 << 40]),
        ("LE", 7, 0, [6, 7], [8, 1 << 40]),
        ("GT", 7, 0, [8, 1 << 40], [6, 7]),
        ("GE", 7, 0, [7, 1 << 40], [0, 6]),
        ("MASKED_EQ", 0xF0, 0x10, [0x10, 0x1F, 0x10 | 1 << 40], [0x20, 0x30]),
        ("EQ", 1 << 40, 0, [1 << 40], [0, 1 << 40 | 1]),
    ],
)  # fmt: skip
def test_operator_compares_all_64_bits(
    operator: str, value: int, second: int, holds: list[int], fails: list[int]
) -> None:
    group = allow("lseek", args=[condition(1, operator, value, second)])
    program = profiles.compile_profile(small(group))
    assert {answer(program, "lseek", 0, each) for each in holds} == {"allow"}
    assert {answer(program, "lseek", 0, each) for each in fails} == {"errno 38"}


def test_conditions_on_different_arguments_must_all_hold() -> None:
    group = allow("lseek", args=[condition(0, "EQ", 1), condition(1, "EQ", 2)])
    program = profiles.compile_profile(small(group))
    assert answer(program, "lseek", 1, 2) == "allow"
    assert answer(program, "lseek", 1, 3) == answer(program, "lseek", 0, 2) == "errno 38"


def test_one_of_conditions_on_the_same_argument_is_enough() -> None:
    group = allow("lseek", args=[condition(0, "EQ", 1), condition(0, "EQ", 2)])
    program = profiles.compile_profile(small(group))
    assert answer(program, "lseek", 1) == answer(program, "lseek", 2) == "allow"
    assert answer(program, "lseek", 3) == "errno 38"


def test_rules_that_contradict_are_invalid() -> None:
    first = allow("lseek", args=[condition(0, "EQ", 1)])
    second = {**first, "action": "SCMP_ACT_TRAP"}
    with pytest.raises(Invalid, match=r"syscalls\[1\]: lseek: contradicts an earlier rule"):
        profiles.compile_profile(small(first, second))


def test_call_nobody_has_heard_of_is_passed_over() -> None:
    program = profiles.compile_profile(small(allow("read", "no_such_call")))
    assert answer(program, "read") == "allow"


@on_x86_64
@pytest.mark.parametrize("architectures", [[], [X86_64, X86, X32], ["SCMP_ARCH_AARCH64"]])
def test_newer_calls_have_their_numbers_on_each_architecture(architectures: list[str]) -> None:
    newest = ("file_getattr", "listns", "rseq_slice_yield")
    program = profiles.compile_profile(small(allow(*newest), architectures=architectures))
    for architecture in {X86_64, *architectures} - {X32}:
        said = {bpf.action(program, architecture, call) for call in (468, 470, 471)}
        assert said == {seccomp.RET_ALLOW}
        assert bpf.describe(bpf.action(program, architecture, 469)) == "errno 38"


@on_x86_64
def test_profile_that_refuses_by_default_says_enosys_to_calls_newer_than_it() -> None:
    """What runc calls its ENOSYS stub: a C library then takes the older call."""
    spelled = small(allow("read", "statx"), defaultErrnoRet=1, architectures=[X86_64, X86, X32])
    program = profiles.compile_profile(spelled)
    for architecture in (X86_64, X86):
        latest = number("statx", architecture)
        assert latest is not None
        assert bpf.describe(bpf.action(program, architecture, latest)) == "allow"
        assert bpf.describe(bpf.action(program, architecture, latest - 1)) == "errno 1"
        assert bpf.describe(bpf.action(program, architecture, latest + 1)) == "errno 38"
    assert bpf.describe(bpf.action(program, X32, bpf.X32_BIT)) == "allow"


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_profile_that_allows_by_default_allows_newer_calls(default: str) -> None:
    denied = {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}
    program = profiles.compile_profile({"defaultAction": default, "syscalls": [denied]})
    assert bpf.describe(bpf.action(program, abi.SECCOMP_NAME, 9999)) in ("allow", "log")
    assert answer(program, "mkdirat") == "errno 1"


def test_machine_without_libseccomp_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libseccomp._library.cache_clear()
    monkeypatch.setattr(libseccomp, "_LIBRARY", "libnone.so.9")
    with pytest.raises(HostUnable, match="libnone.so.9 is not installed") as caught:
        profiles.compile_profile(small())
    assert "libseccomp2" in caught.value.hint


# -- the cache ---------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A directory for programs that does not exist yet."""
    return tmp_path / "cache" / "seccomp"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile of one's own."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(small(allow("read"))))
    return path


def the_file(cache: Path) -> Path:
    (found,) = cache.iterdir()
    return found


def test_program_is_kept_and_found_without_compiling(cache: Path) -> None:
    first = seccomp_cache.program(DEFAULT, directory=str(cache))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from rootless.runtime import seccomp_cache; "
        "made = seccomp_cache.program(int(sys.argv[2]), directory=sys.argv[3]); "
        "assert 'rootless.runtime.seccomp' not in sys.modules; "
        "assert not {'re', 'json', 'ctypes', 'hashlib'} & set(sys.modules), sys.modules; "
        "print(made.flags, made.hex())"
    )
    python = shutil.which("python3", path="/usr/bin") or "python3"
    command = [python, "-I", "-S", "-B", "-c", code, str(CHECKOUT), str(DEFAULT), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(first.flags), first.hex()]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert the_file(cache).stat().st_mode & 0o777 == 0o600


def test_capabilities_image_and_profile_have_programs_of_their_own(
    cache: Path, profile: Path
) -> None:
    seccomp_cache.program(DEFAULT, directory=str(cache))
    seccomp_cache.program(0, directory=str(cache))
    seccomp_cache.program(DEFAULT, architecture="386", directory=str(cache))
    seccomp_cache.program(DEFAULT, str(profile), directory=str(cache))
    assert len(list(cache.iterdir())) == 4


def test_changed_profile_is_compiled_again(cache: Path, profile: Path) -> None:
    before = seccomp_cache.program(0, str(profile), directory=str(cache))
    replacement = profile.with_suffix(".new")
    replacement.write_text(json.dumps(small(allow("open"))))
    replacement.rename(profile)
    assert seccomp_cache.program(0, str(profile), directory=str(cache)) != before


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _cut_to_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:12])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def _change_flags(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4] ^= 2
    path.write_bytes(data)


def _other_magic(path: Path) -> None:
    path.write_bytes(b"else" + path.read_bytes()[4:])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(40_000))


def _let_others_write(path: Path) -> None:
    path.chmod(0o622)


def _link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "damage",
    [_truncate, _cut_to_header, _empty, _flip, _change_flags, _other_magic, _lengthen]
    + [_let_others_write, _link],
)
def test_damaged_program_is_compiled_again(cache: Path, profile: Path, damage: Any) -> None:
    good = seccomp_cache.program(0, str(profile), directory=str(cache))
    kept = the_file(cache)
    contents = kept.read_bytes()
    damage(kept)
    again = seccomp_cache.program(0, str(profile), directory=str(cache))
    assert (again, again.flags) == (good, good.flags)
    assert not kept.is_symlink()
    assert kept.read_bytes() == contents


def test_program_under_the_name_of_another_is_not_taken(cache: Path, profile: Path) -> None:
    strict = seccomp_cache.program(0, str(profile), directory=str(cache))
    name = the_file(cache)
    seccomp_cache.program(DEFAULT, directory=str(cache))
    (other,) = set(cache.iterdir()) - {name}
    other.rename(name)
    assert seccomp_cache.program(0, str(profile), directory=str(cache)) == strict


def test_directory_that_cannot_be_written_is_done_without(tmp_path: Path, profile: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.joinpath("closed").mkdir(mode=0o500)
    place = tmp_path / "closed" / "seccomp"
    assert seccomp_cache.program(0, str(profile), directory=str(place))
    assert not place.exists()


def test_directory_others_can_write_to_keeps_nothing(cache: Path, profile: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert seccomp_cache.program(0, str(profile), directory=str(cache))
    assert list(cache.iterdir()) == []


def test_number_of_programs_is_bounded(cache: Path, profile: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    for each in range(100):
        cache.joinpath(f".{each}").write_bytes(b"left behind")
    seccomp_cache.program(0, str(profile), directory=str(cache))
    assert len(list(cache.iterdir())) == 64
    assert [path for path in cache.iterdir() if not path.name.startswith(".")]


def test_programs_are_kept_in_the_cache_directory(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    seccomp_cache.program(0, str(profile))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    seccomp_cache.program(0, str(profile))
    monkeypatch.delenv("HOME")
    seccomp_cache.program(0, str(profile))
    for place in ("xdg", "home/.cache"):
        assert len(list((tmp_path / place / "rootless" / "seccomp").iterdir())) == 1


def test_document_is_kept_by_its_contents(cache: Path) -> None:
    one, other = small(allow("read")), small(allow("write"))
    made = seccomp_cache.of_document(one, directory=str(cache))
    assert seccomp_cache.of_document(one, directory=str(cache)) == made
    assert len(list(cache.iterdir())) == 1
    assert seccomp_cache.of_document(other, directory=str(cache)) != made
    assert made == profiles.compile_profile(one)


def test_load_refuses_half_an_instruction() -> None:
    with pytest.raises(OSError) as caught:
        seccomp.load(b"1234567")
    assert caught.value.errno == errno.EINVAL
