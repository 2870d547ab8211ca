# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another process does: bounded, and no longer than it takes."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

TIME_LIMIT = 20.0  # seconds; only a failure reaches it


def until(condition: Callable[[], object], seconds: float = TIME_LIMIT) -> bool:
    """True as soon as `condition` holds, False when it did not within `seconds`."""
    for _ in range(int(seconds * 200)):
        if condition():
            return True
        select.select((), (), (), 0.005)
    return bool(condition())


def ended(pidfd: int, seconds: float = TIME_LIMIT) -> bool:
    """Whether the process behind `pidfd` ends within `seconds`; closes the descriptor."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    over = bool(poll.poll(seconds * 1000))
    os.close(pidfd)
    return over
