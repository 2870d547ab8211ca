# SPDX-License-Identifier: Apache-2.0
"""Signals the launching parent gets are the container's."""

from __future__ import annotations

import _signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.runtime.launch import Process

_FORWARDED = tuple(
    getattr(_signal, name)
    for name in (
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGTERM",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGCONT",
    )
)
_INSISTENCE = 3


def forward(process: Process, but: Sequence[int] = ()) -> None:
    """Pass signals on to the container; a third Ctrl-C or SIGTERM kills what ignores the first two.

    Process 1 of a pid namespace has no default actions: without a handler it never sees SIGTERM.
    """
    asked = 0

    def forward(number: int, _frame: object) -> None:
        nonlocal asked
        if number in (_signal.SIGINT, _signal.SIGTERM):
            asked += 1
        process.send_signal(_signal.SIGKILL if asked >= _INSISTENCE else number)

    for number in _FORWARDED:
        if number not in but:
            _signal.signal(number, forward)
