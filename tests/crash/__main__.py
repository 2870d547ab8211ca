# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.crash [N] [--only OPERATION] [--workers W]`: kills commands at N of their system calls.

After each kill the next ordinary commands run, `system check` must find nothing, the command is
repeated, and the store must then be what it is without any kill: nothing lost, nothing left over.
Prints one line an operation; the exit code is 1 when anything was lost, broken or leaked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rootless.engine import check, containers, images
from rootless.images import garbage
from rootless.paths import Paths
from rootless.storage import partial
from tests.crash.census import census, difference, processes
from tests.crash.operations import Operation, Stage, set_up
from tests.lib import supervisor, view
from tests.lib.command_line import CommandLine, program
from tests.lib.fake_registry import FakeRegistry

ALL = 1 << 30
_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Plan:
    """Where one operation is to be killed, and what the store holds when it is not."""

    operation: Operation
    changes: int
    points: tuple[int, ...]
    expected: dict[str, int]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    parser.add_argument("count", nargs="?", default="300", help="kills in all, or `all`")
    parser.add_argument("--only", default="", help="one operation")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    count = ALL if arguments.count == "all" else int(arguments.count)
    view.map_one_id()  # under ptrace newuidmap could give no others anyway
    with tempfile.TemporaryDirectory(prefix="rootless-crash-") as place, FakeRegistry() as registry:
        stage = set_up(Path(place), registry)
        chosen = [each for each in stage.operations if arguments.only in ("", each.name)]
        plans = [plan(stage, each, count // len(chosen)) for each in chosen]
        return 0 if report(plans, kill_all(stage, plans, arguments.workers)) else 1


# -- before -----------------------------------------------------------------------------------------


def plan(stage: Stage, operation: Operation, count: int) -> Plan:
    """Run it once to its end, counting; spread `count` kills over all its changes."""
    with Copy(stage, f"plan-{operation.name}") as copy:
        done = copy.run(operation)
        if done.status:
            raise SystemExit(f"{operation.name}: exit {done.status}: {done.output}")
        settle(copy.paths)
        expected = census(copy.paths)
    count = min(count, done.changes)
    points = {1 + round(at * (done.changes - 1) / max(1, count - 1)) for at in range(count)}
    return Plan(operation, done.changes, tuple(sorted(points)), expected)


class Copy:
    """A store of one's own, like the prepared one."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.directory = stage.directory / name.replace(" ", "_")
        self.paths = Paths(str(self.directory / "store"), str(self.directory / "run"))
        self._template = stage.paths.data
        self.rootless = CommandLine(self.paths)
        # An import made again is the same image.
        self.rootless.environ["SOURCE_DATE_EPOCH"] = "1700000000"

    def __enter__(self) -> Copy:
        self.directory.mkdir()
        subprocess.run(["cp", "-a", self._template, self.paths.data], check=True)
        os.mkdir(self.paths.run, 0o700)
        return self

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self.directory, onerror=_open_and_retry)

    def run(self, operation: Operation, kill_at: int = 0) -> supervisor.Outcome:
        command = [*program(), *operation.words]
        return supervisor.run(command, self.rootless.environ, self.directory / "log", kill_at)


def _open_and_retry(function: object, path: str, _failure: object) -> None:
    """overlayfs leaves a directory of mode 0."""
    os.chmod(path, 0o700)
    os.rmdir(path)


def settle(paths: Paths) -> None:
    """What `images` and `ps` do: the next ordinary commands."""
    images.list(paths)
    containers.list(paths)


# -- killing ----------------------------------------------------------------------------------------


def kill_all(stage: Stage, plans: list[Plan], workers: int) -> list[str]:
    """Every kill of every plan, shared among processes; the complaints."""
    jobs = [(each, point) for each in plans for point in each.points]
    pids = []
    for worker in range(workers):
        log = stage.directory / f"complaints-{worker}"
        log.touch()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with log.open("a", buffering=1) as file:
                    for each, point in jobs[worker::workers]:
                        for complaint in kill_once(stage, each, point):
                            file.write(f"{each.operation.name} at {point}: {complaint}\n")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    complaints = [f"worker {pid} ended early" for pid in failed]
    for worker in range(workers):
        complaints += (stage.directory / f"complaints-{worker}").read_text().splitlines()
    return complaints


def kill_once(stage: Stage, planned: Plan, point: int) -> list[str]:
    """One kill and what was wrong afterwards; nothing, if all is well."""
    operation = planned.operation
    with Copy(stage, f"{operation.name}-{point}") as copy:
        before = census(copy.paths)
        outcome = copy.run(operation, point)
        came_through = outcome.killed == 0
        complaints = [f"leaked process {each}" for each in processes(copy.paths.data)]
        settle(copy.paths)
        found = check.check(copy.paths)
        complaints += [f"broken: {fault}" for fault in found]
        if operation.name == "pull":
            partial.sweep(copy.paths, every=True)  # what `system prune` does: no more resuming
            garbage.collect(copy.paths)
        after = census(copy.paths)
        if operation.name in _ALL_OR_NOTHING and after not in (before, planned.expected):
            nearer = min((before, planned.expected), key=lambda each: len(difference(each, after)))
            complaints += [f"leaked: half done: {each}" for each in difference(nearer, after)]
        if operation.name not in _REMOVERS:
            lost = [n for n in before if after.get(n) != before[n] and n not in _COUNTED]
            complaints += [f"lost: {name}" for name in lost]
        complaints += repeat(copy, planned, came_through)
        return complaints


_ALL_OR_NOTHING = ("pull", "load", "import", "run --rm", "rm", "rmi")
_REMOVERS = ("rm", "rmi", "image prune")
_COUNTED = ("containers", "names", "running", "index.json")


def repeat(copy: Copy, planned: Plan, came_through: bool) -> list[str]:
    """Do it again, and compare with a store where it was done once."""
    operation = planned.operation
    if operation.prepare is not None:
        operation.prepare(copy.paths)
    done = copy.rootless(*operation.words)
    complaints = []
    if done.returncode and not operation.may_fail and not came_through:
        complaints.append(f"broken: repeated, it says {done.stderr.strip()!r}")
    settle(copy.paths)
    complaints += [f"broken at last: {fault}" for fault in check.check(copy.paths)]
    different = difference(planned.expected, census(copy.paths))
    complaints += [f"leaked or lost: {each}" for each in different]
    return complaints


# -- after ------------------------------------------------------------------------------------------


def report(plans: list[Plan], complaints: list[str]) -> bool:
    """Print the figures and every complaint; True when there are none."""
    kinds = Counter(_kind(each) for each in complaints)
    for each in plans:
        print(f"{each.operation.name:12} {each.changes:5} changes {len(each.points):5} kills")
    kills = sum(len(each.points) for each in plans)
    words = " ".join(f"{kind}={kinds[kind]}" for kind in ("lost", "broken", "leaked"))
    print(f"{kills} kills: {words} in {time.monotonic() - _BEGAN:.0f} s")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return not complaints


def _kind(complaint: str) -> str:
    text = complaint.partition(": ")[2]
    return next((kind for kind in ("lost", "leaked") if text.startswith(kind)), "broken")


if __name__ == "__main__":
    sys.exit(main())
