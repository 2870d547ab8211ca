# SPDX-License-Identifier: Apache-2.0
"""Work done as the root of a user namespace, in a process of its own: unpacking, packing, deleting.

Files whose owners are subordinate ids can only be made and removed by somebody who maps them.
"""

from __future__ import annotations

import _signal
import os

from rootless import errors
from rootless.errors import HostUnable, RootlessError
from rootless.linux import namespaces, prctl, tree
from rootless.oci import document
from rootless.runtime import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.runtime.idmap import IdMap


class Worker:
    """A child process inside a user namespace, and the answer it will give."""

    __slots__ = ("_answer", "pid")

    def __init__(self, pid: int, answer: int) -> None:
        self.pid = pid
        self._answer = answer

    def wait(self) -> bytes:
        """What the function returned; raises what it raised."""
        if self.pid == 0:
            raise ChildProcessError("already waited for")
        chunks = []
        try:
            while chunk := os.read(self._answer, 1 << 16):
                chunks.append(chunk)
        finally:
            status = self._reap()
        answer = b"".join(chunks)
        if answer[:1] == b"=":
            return answer[1:]
        if answer[:1] == b"!":
            raise _error_from(answer[1:])
        code = os.waitstatus_to_exitcode(status)
        raise RootlessError(f"a process of ours ended early, with status {code}")

    def kill(self) -> None:
        """End the worker, if it is still there."""
        if self.pid:
            os.kill(self.pid, _signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        pid, self.pid = self.pid, 0
        os.close(self._answer)
        return os.waitpid(pid, 0)[1]


def spawn(id_map: IdMap, function: Callable[[], bytes], *, isolated: bool = True) -> Worker:
    """Run `function` in a child that is root of a new user namespace with `id_map`.

    The child has its own mount namespace, and with `isolated` its own network and IPC namespaces
    without any device. It leaves by _exit, so no caller's code ever runs twice. It dies with its
    parent. Descriptors stay open in it. Raises HostUnable where user namespaces are refused.
    """
    answer, answering = os.pipe2(os.O_CLOEXEC)
    ready, readying = os.pipe2(os.O_CLOEXEC)
    mapped, mapping = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(mapping)
        has_root = id_map.to_host_uid(0) is not None
        _serve(function, (isolated, has_root), answering, readying, mapped)
    for fd in (answering, readying, mapped):
        os.close(fd)
    worker = Worker(pid, answer)
    try:
        if os.read(ready, 1):
            idmap.write(pid, id_map)
            os.write(mapping, b"m")
    except BaseException:
        worker.kill()
        raise
    finally:
        os.close(ready)
        os.close(mapping)
    return worker


def call(id_map: IdMap, function: Callable[[], bytes], *, isolated: bool = True) -> bytes:
    """`spawn(...)` and its answer."""
    return spawn(id_map, function, isolated=isolated).wait()


def remove_tree(id_map: IdMap, path: str) -> None:
    """Delete a directory whose files may belong to subordinate ids.

    Raises OSError when even the user namespace's root may not.
    """
    try:
        tree.remove(path)
    except PermissionError:

        def remove() -> bytes:
            tree.remove(path)
            return b""

        call(id_map, remove, isolated=False)


def _serve(
    function: Callable[[], bytes],
    how: tuple[bool, bool],
    answering: int,
    readying: int,
    mapped: int,
) -> None:
    """The child's life; never returns."""
    try:
        try:
            _enter(*how, readying, mapped)
            answer = b"=" + function()
        except RootlessError as problem:
            told: list[object] = [type(problem).__name__, problem.message, problem.hint]
            answer = b"!" + document.dumps(told)
        except OSError as problem:
            filename = os.fsdecode(problem.filename) if problem.filename is not None else None
            told = ["OSError", problem.errno, problem.strerror, filename]
            answer = b"!" + document.dumps(told)
        except MemoryError:
            answer = b"!" + document.dumps(["RootlessError", "out of memory", ""])
        except Exception as problem:
            told = ["RootlessError", f"internal error: {type(problem).__name__}: {problem}", ""]
            answer = b"!" + document.dumps(told)
        while answer:
            answer = answer[os.write(answering, answer) :]
    finally:
        os._exit(0)


def _enter(isolated: bool, has_root: bool, readying: int, mapped: int) -> None:
    prctl.set_pdeathsig(_signal.SIGKILL)
    flags = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS
    if isolated:
        flags |= namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC
    try:
        namespaces.unshare(flags)
    except OSError as problem:
        raise HostUnable(
            f"cannot make a user namespace: {problem.strerror}",
            hint="rootless doctor says what this machine restricts",
        ) from None
    os.write(readying, b"r")
    os.close(readying)
    if not os.read(mapped, 1):
        os._exit(1)  # the parent could not write the map and says why itself
    os.close(mapped)
    if has_root:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        prctl.set_pdeathsig(_signal.SIGKILL)  # the change of credentials cleared it


def _error_from(answer: bytes) -> Exception:
    kind, *details = document.loads(answer)
    if kind == "OSError":
        number, text, filename = details
        return OSError(number, text, filename) if filename is not None else OSError(number, text)
    message, hint = details
    found = getattr(errors, kind, RootlessError)
    return found(message, hint=hint)
