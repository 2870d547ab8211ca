# SPDX-License-Identifier: Apache-2.0
"""How long a registry is waited for, and how all waiting ends at once.

Holds numbers and one event; it opens no connection.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from rootless.errors import Interrupted

_SIGINT = 2


@dataclass(frozen=True)
class Patience:
    """Limits of time and of trying again; times in seconds."""

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    connect: float = 20.0
    idle: float = 60.0
    commit: float = 600.0  # until a registry has put away what was sent to it
    slowest: int = 1024  # bytes a second, over one idle time; slower counts as a lost connection
    worthwhile: int = 1 << 20  # bytes after which a lost connection does not count as a try

    def wait_before(self, attempt: int, retry_after: str | None = None) -> float:
        """Seconds to wait after the `attempt`-th failure (from 1), honouring a Retry-After header.

        RFC 9110 §10.2.3: a number of seconds or a date; anything else is as good as no header.
        """
        asked = _seconds(retry_after) if retry_after else None
        wait = self.first_wait * 2.0 ** (attempt - 1) if asked is None else asked
        return min(max(wait, 0.0), self.longest_wait)


def _seconds(retry_after: str) -> float | None:
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()


class Stoppable(Protocol):
    """Something that may block in the kernel until `shutdown` is called from another thread."""

    def shutdown(self) -> None: ...


class Cancellation:
    """One decision to stop, seen by every thread of a transfer."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Stoppable] = set()

    @property
    def is_set(self) -> bool:
        """True once `cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Stop: waits return, reads from connections end."""
        self._event.set()
        with self._lock:
            waiting = list(self._open)
        for connection in waiting:
            connection.shutdown()

    def check(self) -> None:
        """Raise Interrupted once cancelled."""
        if self._event.is_set():
            raise Interrupted(_SIGINT)

    def sleep(self, seconds: float) -> None:
        """Wait that long; raise Interrupted as soon as cancelled."""
        self._event.wait(seconds)
        self.check()

    def watch(self, connection: Stoppable) -> None:
        """Shut this connection down when cancelled."""
        with self._lock:
            self._open.add(connection)
        if self._event.is_set():
            connection.shutdown()

    def forget(self, connection: Stoppable) -> None:
        """The connection is closed, or belongs to nobody again."""
        with self._lock:
            self._open.discard(connection)
