# SPDX-License-Identifier: Apache-2.0
"""The notify protocol of the runtime specification: who answers the calls a profile asks about.

SCMP_ACT_NOTIFY stops a system call until the owner of the filter's listener answers. The listener
appears in the child, when the filter is loaded; the owner waits at listenerPath on the host's side,
which only the parent can reach. So it travels twice:

    child   loads the filter with NEW_LISTENER
            sendmsg: the listener, as SCM_RIGHTS     ──>  parent
    parent  connects to listenerPath, sends ContainerProcessState with the listener as SCM_RIGHTS
            one byte                                 ──>  child
    child   goes on to the exec

Between the two the child's own calls are filtered with nobody to answer them: a profile can
therefore not notify about sendmsg (`runtime.seccomp.check` refuses it), and must allow it. From
the parent's byte on every call is somebody's to answer, the child's recv included. pidfd_getfd(2)
would spare the sendmsg, but needs ptrace access to a process that is not dumpable on purpose.

The step runs between fork and exec; only profiles with SCMP_ACT_NOTIFY import this module.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys

from rootless.errors import LaunchFailed
from rootless.linux import seccomp
from rootless.oci import document
from rootless.runtime.confine import SyscallFilter
from rootless.runtime.rootfs import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LISTENER_NAME = "seccompFd"  # SeccompFdName, config-linux.md, "The Container Process State"
_INT_SIZE = 4


class Handover:
    """The way of the listener out of the child: made before the fork, one end for each side."""

    __slots__ = ("_ours", "_theirs")

    def __init__(self) -> None:
        self._ours, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def give(self, listener: int) -> None:
        """In the child: send the listener, wait until it is where it belongs; OSError."""
        self._ours.close()  # or the end of the parent would not be the end of the stream
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _descriptor(listener))]
        self._theirs.sendmsg([b"L"], rights)
        if not self._theirs.recv(1):
            raise OSError(errno.ECONNREFUSED, "nobody took the listener of the seccomp filter")

    def take(self) -> int:
        """In the parent: the listener, close-on-exec; -1 when the child ended before it had one."""
        self._theirs.close()  # or the end of the child would not be the end of the stream
        space = _socket.CMSG_SPACE(_INT_SIZE)
        _, rights, _, _ = self._ours.recvmsg(1, space, _socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in rights:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                return int.from_bytes(data[:_INT_SIZE], sys.byteorder)
        return -1

    def confirm(self) -> None:
        """In the parent: let the child go on."""
        self._ours.send(b"+")

    def close(self) -> None:
        """Both ends; a child still waiting takes that for a refusal."""
        self._ours.close()
        self._theirs.close()


class NotifyingFilter(SyscallFilter):
    """A seccomp program with a listener that goes to the parent."""

    __slots__ = ("handover",)

    def __init__(self, profile: str, program: bytes, flags: int, handover: Handover) -> None:
        super().__init__(profile, program, flags | seccomp.FILTER_FLAG_NEW_LISTENER)
        self.handover = handover

    def execute(self, stage: Stage) -> None:
        listener = seccomp.load(self.program, self.flags)
        self.handover.give(listener)
        os.close(listener)


def deliver(handover: Handover, spelled: dict[str, Any], state: dict[str, Any]) -> None:
    """In the parent, once the child has been let go: bring the listener to its owner.

    `spelled` is linux.seccomp, `state` the container's State of runtime.md with the child's pid.
    Returns without a word when the child failed before it had a listener: it tells why itself.
    Raises LaunchFailed naming listenerPath.
    """
    try:
        listener = handover.take()
        if listener < 0:
            return
        try:
            _send(spelled["listenerPath"], listener, container_process_state(spelled, state))
        finally:
            os.close(listener)
        handover.confirm()
    finally:
        handover.close()


def container_process_state(spelled: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """ContainerProcessState of config-linux.md."""
    made = {
        "ociVersion": state["ociVersion"],
        "fds": [_LISTENER_NAME],
        "pid": state["pid"],
        "state": state,
    }
    if spelled.get("listenerMetadata"):
        made["metadata"] = spelled["listenerMetadata"]
    return made


def _send(path: str, listener: int, told: dict[str, Any]) -> None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _descriptor(listener))]
    text = document.dumps(told)
    try:
        connection.connect(path)
        sent = connection.sendmsg([text], rights)
        connection.sendall(text[sent:])
    except OSError as problem:
        raise LaunchFailed(
            f"cannot pass on the seccomp listener: {path}: {problem.strerror}",
            hint="start the program that answers for linux.seccomp.listenerPath first",
        ) from None
    finally:
        connection.close()


def _descriptor(fd: int) -> bytes:
    return fd.to_bytes(_INT_SIZE, sys.byteorder)
