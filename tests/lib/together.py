# SPDX-License-Identifier: Apache-2.0
"""Work done by several processes at once, none of which is left afterwards.

`multiprocessing` keeps a process of its own for as long as the tests run, which other tests that
count children would see.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` to `work(count - 1)` in forked children; fails unless each of them succeeds."""
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * count
