# SPDX-License-Identifier: Apache-2.0
"""Several pieces of work at a time, and one end for all of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.images.patience import Cancellation

_GRACE = 2.0  # seconds for threads to notice that they are not wanted any more


def run(work: Sequence[Callable[[], None]], at_a_time: int, cancellation: Cancellation) -> None:
    """Do all of `work` in up to `at_a_time` threads; the first failure cancels the rest and is raised.

    Ctrl-C reaches the main thread only, which waits here and passes it on.
    """
    crew = _Crew(work, cancellation)
    threads = [
        threading.Thread(target=crew.labour, name=f"work-{number}", daemon=True)
        for number in range(min(at_a_time, len(work)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        cancellation.cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_GRACE)
        raise
    if crew.failures:
        raise crew.failures[0]
    cancellation.check()


class _Crew:
    """Threads that share one list of work."""

    def __init__(self, work: Sequence[Callable[[], None]], cancellation: Cancellation) -> None:
        self._todo = iter(work)
        self._lock = threading.Lock()
        self._cancellation = cancellation
        self.failures: list[BaseException] = []

    def labour(self) -> None:
        """What each thread does: pieces of work until there are none, or it is cancelled."""
        while not self._cancellation.is_set:
            with self._lock:
                piece = next(self._todo, None)
            if piece is None:
                return
            try:
                piece()
            except BaseException as problem:
                with self._lock:
                    self.failures.append(problem)
                self._cancellation.cancel()
