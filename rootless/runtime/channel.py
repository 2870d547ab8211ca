# SPDX-License-Identifier: Apache-2.0
"""What launching parent and forked child say to each other: a fixed vocabulary over two pipes.

    first  -> parent   UNSHARED             the user namespace exists: map its ids
    first  -> parent   PROCESS pid [server] the container's process 1 exists (and a FUSE server)
    parent -> child    GO pid               ids are mapped, cgroup and network are there
    child  -> parent   HOOKS                the namespaces stand: time for hooks on the host's side
    child  -> parent   CREATED              all is prepared; only the exec is missing
    either -> parent   FAILED step errno …  the end; nothing follows
    either -> parent   INTERRUPTED signal   the end too: a signal asked us to stop
    (end of file)                           the exec closed the pipe: the command runs

Runs between fork and exec; imports nothing later.
"""

from __future__ import annotations

import os
import select

UNSHARED = b"U"
PROCESS = b"P"
GO = b"G"
HOOKS = b"H"
CREATED = b"C"
FAILED = b"F"
INTERRUPTED = b"I"
END = b""

_SEPARATOR = b"\0"
_HEAD = 9


class Channel:
    """One side of the conversation. A message is a kind, a length in eight digits, and fields."""

    __slots__ = ("_reading", "writing")

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self.writing = writing

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected sides: the parent's and the child's."""
        to_child, from_parent = os.pipe2(os.O_CLOEXEC)
        to_parent, from_child = os.pipe2(os.O_CLOEXEC)
        return cls(to_parent, from_parent), cls(to_child, from_child)

    def send(self, kind: bytes, *fields: object) -> None:
        """Say one sentence; BrokenPipeError when nobody listens any more."""
        body = _SEPARATOR.join(os.fsencode(str(field)) for field in fields)
        os.write(self.writing, kind + b"%08d" % len(body) + body)

    def receive(self) -> tuple[bytes, list[str]]:
        """The next sentence, (END, []) when the other side is gone."""
        head = _read_exactly(self._reading, _HEAD)
        if len(head) < _HEAD:
            return END, []
        body = _read_exactly(self._reading, int(head[1:]))
        return head[:1], [os.fsdecode(part) for part in body.split(_SEPARATOR)] if body else []

    def has_news(self) -> bool:
        """Whether a sentence, or the end, is there to be received without waiting."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        return bool(poll.poll(0))

    def hang_up(self) -> None:
        """Say no more; what the other side has said can still be received."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        """Neither say nor hear any more."""
        for fd in (self._reading, self.writing):
            if fd >= 0:
                os.close(fd)
        self._reading = self.writing = -1


def _read_exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            break
        data += more
    return data
