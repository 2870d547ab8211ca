# SPDX-License-Identifier: Apache-2.0
"""Progress on a person's screen: bars on a terminal, lines elsewhere; the words are docker's."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless.images.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from rich.progress import TaskID

    from rootless.images.progress import Progress

_REDRAW = 0.1  # seconds between two drawings
_STARTED = {"Downloading": "Pulling fs layer"}  # what docker's plain output calls it
_UNSAID = ("Pushing", "Saving")  # a bar to docker, and nothing where there are no bars


@contextmanager
def shown(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """A progress display that fits `stream` (default: standard output), gone or complete afterwards."""
    stream = sys.stdout if stream is None else stream
    if quiet:
        yield Silent()
    elif stream.isatty():
        with _Bars(stream) as bars:
            yield bars
    else:
        yield Lines(stream)


class Lines:
    """One line for each change of phase, as `docker pull` writes into a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def start(self, key: str, label: str, total: int | None) -> None:
        """Say what begins, where docker does."""
        if label in _UNSAID:
            return
        self._say(key, _STARTED.get(label, label))

    def advance(self, key: str, count: int) -> None:
        """Nothing: a line for each chunk would drown the rest."""

    def done(self, key: str, label: str) -> None:
        """Say how it ended."""
        self._say(key, label)

    def _say(self, key: str, label: str) -> None:
        with self._lock:
            self._stream.write(f"{key}: {label}\n")
            self._stream.flush()


class _Bars:
    """One line for each piece of work, redrawn in place.

    Nothing is drawn by a thread of its own: processes are forked while this is on the screen.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[label]:<16}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            console=Console(file=stream),
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()
        self._drawn = 0.0

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def start(self, key: str, label: str, total: int | None) -> None:
        """A new line, or a new phase on a line that is there."""
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(key, total=total, label=label)
            elif total is None:
                self._bars.update(self._tasks[key], label=label)
            else:
                self._bars.reset(self._tasks[key], total=total, label=label)
            self._draw(now=True)

    def advance(self, key: str, count: int) -> None:
        """Move the bar; draws now and then."""
        with self._lock:
            self._bars.advance(self._tasks[key], count)
            self._draw()

    def done(self, key: str, label: str) -> None:
        """The last word on a line."""
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(key, total=1, completed=1, label=label)
            self._bars.update(self._tasks[key], label=label)
            self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if now or moment - self._drawn > _REDRAW:
            self._drawn = moment
            self._bars.refresh()
