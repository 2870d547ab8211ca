# SPDX-License-Identifier: Apache-2.0
"""The default filter in the kernel: what a process behind it can do, and cannot; the notify protocol."""

from __future__ import annotations

import array
import errno
import fcntl
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import LaunchFailed
from rootless.linux import capability, keyctl, prctl, seccomp
from rootless.runtime import seccomp as profiles
from rootless.runtime import seccomp_cache, seccomp_notify
from rootless.runtime.rootfs import Stage
from tests.lib.filtered import behind, in_child, outcome, refusal

pytestmark = pytest.mark.needs("libseccomp")

ORDINARY = capability.mask(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SYS_CHROOT"])
SYS_ADMIN = ORDINARY | capability.mask(["CAP_SYS_ADMIN"])
AF_ALG, AF_VSOCK, NEWUSER, NEWUTS = 38, 40, 0x10000000, 0x04000000


@functools.cache
def default(capabilities: int = ORDINARY, architecture: str = "") -> seccomp_cache.Program:
    """The default profile, compiled anew."""
    path = seccomp_cache._find("default")[0]
    resolved = profiles.resolve(profiles.read(path), capabilities, architecture)
    return profiles.compile_profile(resolved)


def asking(path: str, *names: str) -> dict[str, Any]:
    """A linux.seccomp that asks the owner of `path` about these calls."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "from the test",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
    }


# -- refused -----------------------------------------------------------------------------------------

CLOSED: tuple[tuple[str, tuple[int | bytes | None, ...], str], ...] = (
    ("socket", (AF_ALG, 5, 0), "EPERM"),
    ("socket", (AF_VSOCK, 1, 0), "EPERM"),
    ("socket", (1 << 32 | AF_ALG, 5, 0), "EPERM"),
    ("io_uring_setup", (1, 0), "ENOSYS"),
    ("keyctl", (0, -3, 0), "ENOSYS"),
    ("add_key", (b"user", b"name", b"x", 1, -3), "ENOSYS"),
    ("request_key", (b"user", b"name", 0, 0), "ENOSYS"),
    ("bpf", (0, 0, 0), "EPERM"),
    ("userfaultfd", (0,), "EPERM"),
    ("open_by_handle_at", (-1, 0, 0), "EPERM"),
    ("perf_event_open", (0, 0, -1, -1, 0), "EPERM"),
    ("kexec_load", (0, 0, 0, 0), "EPERM"),
    ("init_module", (0, 0, b""), "EPERM"),
    ("swapoff", (b"/none",), "EPERM"),
    ("acct", (None,), "EPERM"),
    ("kcmp", (0, 0, 0, 0, 0), "EPERM"),
    ("mount", (0, 0, 0, 0, 0), "EPERM"),
    ("unshare", (0,), "EPERM"),
    ("setns", (-1, 0), "EPERM"),
    ("pivot_root", (b".", b"."), "EPERM"),
    ("clone", (NEWUSER | signal.SIGCHLD, 0, 0, 0, 0), "EPERM"),
    ("clone3", (0, 0), "ENOSYS"),
    ("personality", (0x0400000,), "ENOSYS"),
)


@pytest.mark.parametrize(("call", "arguments", "wanted"), CLOSED)
def test_closed_call_is_refused(
    call: str, arguments: tuple[int | bytes | None, ...], wanted: str
) -> None:
    assert behind(default(), lambda: refusal(call, *arguments)) == wanted


@pytest.mark.parametrize("number", [472, 500, 9999])
def test_unknown_call_is_not_implemented(number: int) -> None:
    assert behind(default(), lambda: refusal(number)) == "ENOSYS"


# -- allowed -----------------------------------------------------------------------------------------


def _threads() -> int:
    said: list[int] = []
    threads = [threading.Thread(target=said.append, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(said)


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _execute() -> str:
    done = subprocess.run([sys.executable, "-ISc", "print(6 * 7)"], capture_output=True, check=True)
    return done.stdout.decode().strip()


def _sockets() -> list[str]:
    families = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    made = [outcome(lambda family=family: socket.socket(family).close()) for family in families]  # type: ignore[misc]
    made.append(outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    return made


def _personalities() -> list[str]:
    return [refusal("personality", persona) for persona in (0xFFFFFFFF, 0, 8, 0)]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (_threads, 4),
        (_fork, 7),
        (_execute, "42"),
        (_sockets, [""] * 4),
        (_personalities, [""] * 4),
    ],
)
def test_ordinary_work_goes_on(function: Callable[[], Any], wanted: Any) -> None:
    assert behind(default(), function) == wanted


def test_filter_is_there_after_exec() -> None:
    code = "print([line.split()[1] for line in open('/proc/self/status') if 'Seccomp:' in line][0])"

    def execute() -> str:
        done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, check=True)
        return done.stdout.decode().strip()

    assert behind(default(), execute) == "2"


def test_program_runs_where_the_compiler_and_shell_do(tmp_path: Path) -> None:
    """A shell with a pipe, as the nearest thing to what people run."""

    def pipe() -> str:
        command = ["sh", "-c", 'cd "$1" && echo one > a && cat a | tr o O', "sh", str(tmp_path)]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode()

    assert behind(default(), pipe) == "One\n"


@pytest.mark.needs("userns")
def test_sys_admin_opens_namespaces() -> None:
    def enter() -> list[str]:
        return [refusal("unshare", NEWUSER | NEWUTS), outcome(lambda: socket.sethostname("inside"))]

    assert behind(default(SYS_ADMIN), enter) == ["", ""]


# -- 32-bit programs ---------------------------------------------------------------------------------

I386 = """
static int call(int number, int a, int b, int c) {
    int result;
    __asm__ volatile ("int $0x80" : "=a"(result)
                      : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
void _start(void) {
    int arguments[3] = {%(family)d, %(kind)d, 0};
    int direct = call(359, arguments[0], arguments[1], 0);
    int through = call(102, 1, (int) arguments, 0);
    char said[2] = {direct < 0 ? -direct : 0, through < 0 ? -through : 0};
    call(4, 1, (int) said, 2);
    call(1, 0, 0, 0);
}
"""


@pytest.mark.needs("i386")
@pytest.mark.parametrize(
    ("image", "family", "wanted"),
    [
        ("", AF_ALG, (errno.EPERM, errno.EPERM)),
        ("", socket.AF_INET, (0, errno.EPERM)),
        ("386", socket.AF_INET, (0, 0)),
    ],
)
def test_32_bit_program_opens_no_other_door(
    tmp_path: Path, image: str, family: int, wanted: tuple[int, int]
) -> None:
    kind = 5 if family == AF_ALG else 1
    program = tmp_path / "program"
    command = ["gcc", "-m32", "-static", "-nostdlib", "-fno-stack-protector", "-no-pie", "-O1"]
    source = I386 % {"family": family, "kind": kind}
    subprocess.run([*command, "-o", program, "-x", "c", "-"], input=source.encode(), check=True)

    def execute() -> list[int]:
        return list(subprocess.run([program], capture_output=True, check=True).stdout)

    assert tuple(behind(default(ORDINARY, image), execute)) == wanted


# -- loading -----------------------------------------------------------------------------------------


def test_load_without_privilege_says_what_it_needs() -> None:
    if os.geteuid() == 0:
        pytest.skip("root has CAP_SYS_ADMIN")
    with pytest.raises(OSError, match="neither no_new_privs nor CAP_SYS_ADMIN") as caught:
        seccomp.load(default())
    assert caught.value.errno == errno.EACCES


def test_load_of_nonsense_says_so() -> None:
    def load() -> str:
        try:
            seccomp.load(b"\xff" * 8)
        except OSError as problem:
            return str(problem)
        return ""

    said = in_child(lambda: None, load)
    assert "does not accept this filter" in said


@pytest.mark.parametrize(
    "flags", [0, seccomp.FILTER_FLAG_SPEC_ALLOW, seccomp.FILTER_FLAG_LOG, seccomp.FILTER_FLAG_TSYNC]
)
def test_load_takes_flag(flags: int) -> None:
    assert in_child(lambda: None, lambda: seccomp.load(default(), flags)) == 0


def test_second_filter_with_listener_is_refused() -> None:
    program = profiles.compile_profile(asking("/none", "mkdirat"))

    def load() -> list[Any]:
        first = seccomp.load(program, seccomp.FILTER_FLAG_NEW_LISTENER)
        again = outcome(lambda: seccomp.load(program, seccomp.FILTER_FLAG_NEW_LISTENER))
        return [os.get_inheritable(first), again]

    assert in_child(lambda: None, load) == [False, "EBUSY"]


# -- the session keyring -----------------------------------------------------------------------------


def test_session_keyring_is_a_new_one() -> None:
    def join() -> list[int]:
        first = keyctl.join_session_keyring("_ses.one")
        return [first, keyctl.join_session_keyring("_ses.two")]

    try:
        first, second = in_child(lambda: None, join)
    except AssertionError:
        problem = in_child(lambda: None, lambda: outcome(join))
        pytest.skip(f"the kernel or the user's quota refuses keyrings: {problem}")
    assert first > 0
    assert second > 0
    assert first != second


def test_session_keyring_behind_a_filter_is_not_implemented() -> None:
    said = behind(default(), lambda: outcome(lambda: keyctl.join_session_keyring("_ses.x")))
    assert said == "ENOSYS"


# -- the notify protocol -----------------------------------------------------------------------------

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*, linux/seccomp.h
STATE = {"ociVersion": "1.2.0", "id": "box", "status": "creating", "bundle": "/bundle"}


class Owner:
    """Whoever listens at listenerPath: takes one listener, then answers each call with an error."""

    def __init__(self, path: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.told: dict[str, Any] = {}
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.server.accept()
        with connection:
            space = socket.CMSG_SPACE(4)
            text, rights, _, _ = connection.recvmsg(65536, space)
            (fd,) = array.array("i", rights[0][2])
            while more := connection.recv(65536):
                text += more
        self.told = json.loads(text)
        self.answer(fd)

    def answer(self, fd: int) -> None:
        """One call, with EDOM: nothing real says that about mkdir."""
        request = bytearray(80)  # struct seccomp_notif
        fcntl.ioctl(fd, RECEIVE, request)
        identity = request[:8]
        reply = bytearray(identity + struct.pack("=qiI", 0, -errno.EDOM, 0))
        fcntl.ioctl(fd, SEND, reply)
        os.close(fd)

    def close(self) -> None:
        self.thread.join()
        self.server.close()


def _notified(
    handover: seccomp_notify.Handover, spelled: dict[str, Any], code: Callable[[], int]
) -> int:
    """The pid of a child that loads the filter the way a launch does, then ends with `code()`."""
    program = profiles.compile_profile(spelled)
    step = seccomp_notify.NotifyingFilter("test", program, program.flags, handover)
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            prctl.set_no_new_privs()
            step.execute(Stage.__new__(Stage))
            status = code()
        except OSError as problem:
            status = problem.errno or 254
        finally:
            os._exit(status)
    return pid


def test_listener_reaches_its_owner_and_the_owner_answers(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    spelled = asking(str(path), "mkdirat", "mkdir")
    owner = Owner(path)
    handover = seccomp_notify.Handover()

    def make_directory() -> int:
        os.mkdir("/tmp/never")
        return 0

    pid = _notified(handover, spelled, make_directory)
    state = {**STATE, "pid": pid}
    seccomp_notify.deliver(handover, spelled, state)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EDOM
    owner.close()
    assert owner.told == {
        "ociVersion": "1.2.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "from the test",
        "state": state,
    }


def test_owner_who_is_not_there_ends_the_launch(tmp_path: Path) -> None:
    spelled = asking(str(tmp_path / "nobody"), "mkdirat")
    handover = seccomp_notify.Handover()
    pid = _notified(handover, spelled, lambda: 0)
    with pytest.raises(
        LaunchFailed, match="cannot pass on the seccomp listener: .*/nobody: No such"
    ):
        seccomp_notify.deliver(handover, spelled, {**STATE, "pid": pid})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.ECONNREFUSED


def test_child_that_fails_first_is_left_to_say_why(tmp_path: Path) -> None:
    handover = seccomp_notify.Handover()
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    seccomp_notify.deliver(handover, asking(str(tmp_path / "x"), "mkdirat"), {**STATE, "pid": pid})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


@pytest.mark.usefixtures("clean_host")
def test_notify_leaves_no_descriptor(tmp_path: Path) -> None:
    handover = seccomp_notify.Handover()
    pid = _notified(handover, asking(str(tmp_path / "x"), "mkdirat"), lambda: 0)
    with pytest.raises(LaunchFailed):
        seccomp_notify.deliver(handover, asking(str(tmp_path / "x")), {**STATE, "pid": pid})
    os.waitpid(pid, 0)
