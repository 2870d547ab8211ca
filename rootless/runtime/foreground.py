# SPDX-License-Identifier: Apache-2.0
"""A container in the foreground of a terminal: its own pty, or pipes between it and ours.

Without -t the command must not see the terminal as its own streams: programs would behave as
interactive ones where docker gives them pipes.
"""

from __future__ import annotations

import _signal
import os

from rootless.errors import UsageError
from rootless.linux import terminal
from rootless.runtime.console import Relay, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.runtime.launch import Process
    from rootless.runtime.recipe import Recipe


def run(
    recipe: Recipe,
    tty: bool,
    interactive: bool,
    start: Callable[[Recipe], Process],
    *,
    is_console: bool = True,
) -> int:
    """Launch the recipe by `start`, with its streams relayed; returns the exit code.

    `is_console` is False for a process that is not the container's first.
    """
    if tty:
        return _run_on_pty(recipe, interactive, start, is_console)
    return _run_on_pipes(recipe, interactive, start)


def _run_on_pty(
    recipe: Recipe, interactive: bool, start: Callable[[Recipe], Process], is_console: bool
) -> int:
    if interactive and not os.isatty(0):
        raise UsageError(
            "the input device is not a TTY", hint="leave out -t, or run from a terminal"
        )
    ours = next((fd for fd in (0, 1, 2) if os.isatty(fd)), -1)
    size = terminal.window_size(ours) if ours >= 0 else None
    step = Terminal(size, "asked for", is_console=is_console)
    step.connect()
    recipe.insert_before("pivot", step)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    recipe.streams = (null, 1, 2)
    recipe.owned_streams = (0,)
    process = start(recipe)
    os.close(null)
    master = step.receive()
    relay = Relay()
    relay.add(master, 1, wait_for=True)
    if interactive:
        relay.add(0, master, wait_for=False)
    before = terminal.make_raw(0) if interactive else None
    try:
        if ours >= 0:
            _follow_window_size(ours, master)
        relay.run(process.pidfd, lambda: True)
    finally:
        if before is not None:
            terminal.restore(0, before)
    os.close(master)
    return process.wait()


def _follow_window_size(ours: int, master: int) -> None:
    def resize(_number: int, _frame: object) -> None:
        try:
            terminal.set_window_size(master, terminal.window_size(ours))
        except OSError:
            pass  # the container is ending

    _signal.signal(_signal.SIGWINCH, resize)


def _run_on_pipes(recipe: Recipe, interactive: bool, start: Callable[[Recipe], Process]) -> int:
    """Pipes for the streams that are a terminal; the others are the container's as they are."""
    relay = Relay()
    given: list[int] = []
    streams = [0, 1, 2]
    owned = []
    stdin_end = -1
    if not interactive:
        streams[0] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        given.append(streams[0])
    elif os.isatty(0):
        streams[0], stdin_end = os.pipe2(os.O_CLOEXEC)
        given.append(streams[0])
        owned.append(0)
        relay.add(0, stdin_end, wait_for=False, at_end=lambda: os.close(stdin_end))
    for number in (1, 2):
        if os.isatty(number):
            reading, streams[number] = os.pipe2(os.O_CLOEXEC)
            given.append(streams[number])
            owned.append(number)
            relay.add(reading, number, wait_for=True)
    recipe.streams = (streams[0], streams[1], streams[2])
    recipe.owned_streams = tuple(owned)
    process = start(recipe)
    for fd in given:
        os.close(fd)
    relay.run(process.pidfd, lambda: True)
    return process.wait()
