# SPDX-License-Identifier: Apache-2.0
"""Timing whole commands: taken in turns, so that what disturbs the machine disturbs everybody."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

SAMPLE_INTERVAL = 0.01  # seconds between two looks at the memory of a running command


@dataclass(frozen=True)
class Contender:
    """A program in a comparison: its command, and what has to happen before each run, untimed."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    before: Callable[[], None] = lambda: None


class CommandFailed(Exception):
    """A measured command did not succeed: its figure would mean nothing."""


def run(contender: Contender) -> float:
    """Seconds that one run took, from fork to the end of the process."""
    contender.before()
    with started(contender) as process:
        process.wait()
        return time.perf_counter() - process.start


class Process:
    """A command under way, its standard error in a file.

    Not in a pipe: podman leaves children behind that keep it open for seconds after the end.
    """

    def __init__(self, contender: Contender, complaint: IO[bytes]) -> None:
        null = subprocess.DEVNULL
        self.start = time.perf_counter()
        self._process = subprocess.Popen(
            contender.command, env=contender.environ, stdin=null, stdout=null, stderr=complaint
        )
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, or so long; whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def code(self) -> int:
        """The exit code, once it has ended."""
        code = self._process.returncode
        assert code is not None
        return code


@contextlib.contextmanager
def started(contender: Contender) -> Iterator[Process]:
    """A run under way; raises CommandFailed with what it said when it did not succeed."""
    with tempfile.TemporaryFile() as complaint:
        process = Process(contender, complaint)
        yield process
        if process.code != 0:
            complaint.seek(0)
            said = complaint.read().decode(errors="replace").strip()
            raise CommandFailed(f"{' '.join(contender.command)}: exit {process.code}: {said}")


def medians(contenders: Sequence[Contender], rounds: int) -> dict[str, float]:
    """Seconds by name: the median of `rounds` runs each, one round after the other, warmed up once."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds + 1):
        for contender in contenders:
            elapsed = run(contender)
            if turn:
                times[contender.name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(contender: Contender) -> float:
    """Bytes of physical memory that a command and all its descendants held at most, sampled."""
    contender.before()
    peak = 0
    with started(contender) as process:
        while not process.wait(SAMPLE_INTERVAL):
            peak = max(peak, sum(held(pid) for pid in descendants(process.pid)))
    return float(peak)


def descendants(root: int) -> list[int]:
    """`root` and every process below it, as /proc shows it at this moment."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def held(pid: int) -> int:
    """Bytes that one process holds, a page that n processes share counted as 1/n; 0 when it has ended.

    Where the kernel does not let us look so closely, every resident page counts: more, never less.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        pass
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
