# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.crash.stress [SECONDS] [PROCESSES]`: many commands on one store at the same time.

Each process does one thing after the other: pull, run, rmi, image prune, ps, images, system df. What
may fail because of what the others do is known by its words; anything else is unexpected. At the end
nothing may be wrong with the store.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rootless.engine import check, containers, images, prune
from rootless.paths import Paths
from rootless.runtime import idmap, userns
from tests.lib import archives, rootfs
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import FakeRegistry

# What somebody else's removal, run or pull may bring about: sentences a person can act on.
EXPECTED = re.compile(
    r"no such image|no such container|no such object|was removed meanwhile|is running|uses it|runs it|"
    r"another process is at work|is already in use|in use: store-content"
)


def main() -> int:
    """Run for some seconds, then judge."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    place = Path(tempfile.mkdtemp(prefix="rootless-stress-"))
    try:
        return stress(place, seconds, count)
    finally:
        userns.remove_tree(idmap.default(), str(place))


def stress(place: Path, seconds: float, count: int) -> int:
    """The whole of it in a directory of its own; the exit code."""
    paths = Paths(str(place / "store"), str(place / "run"))
    box: Path = rootfs.build(place / "root", rootfs.compile_testbox(place / "testbox"))
    archive = place / "testbox.tar"
    command: list[str | Path] = ["tar", "--owner=0", "--group=0", "-C", box, "-cf", archive, "."]
    subprocess.run(command, check=True)
    registry = FakeRegistry()
    shared = archive.read_bytes()
    for number in range(4):
        own = archives.layer({f"number/{number}": b"%d" % number * 10_000})
        registry.add_image(shared, own, name=f"tag{number}", author=f"number {number}")
    # The children are forked while this process has no threads.
    deadline = time.monotonic() + seconds
    pids = [
        _fork(paths, registry.domain, place / f"log{number}", number, deadline)
        for number in range(count)
    ]
    with registry:
        failed = sum(bool(os.waitpid(pid, 0)[1]) for pid in pids)
    return report(paths, [place / f"log{number}" for number in range(count)], failed)


def _fork(paths: Paths, domain: str, log: Path, seed: int, deadline: float) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("w") as file:
                for line in work(CommandLine(paths), domain, random.Random(seed), deadline):
                    print(line, file=file, flush=True)
            code = 0
        finally:
            os._exit(code)
    return pid


def work(
    rootless: CommandLine, domain: str, choice: random.Random, deadline: float
) -> Iterator[str]:
    """Commands until the time is over; yields a line for each: verb, verdict, words."""
    while time.monotonic() < deadline:
        image = f"{domain}/image:tag{choice.randrange(4)}"
        words = choice.choice(
            (
                ("pull", "-q", image),
                ("pull", "-q", image),
                ("run", "--rm", "--network=none", image, "true"),
                ("run", "--rm", "--network=none", image, "true"),
                ("run", "--name", f"name{choice.randrange(6)}", "--network=none", image, "true"),
                ("rm", f"name{choice.randrange(6)}"),
                ("rmi", image),
                ("rmi", "-f", image),
                ("image", "prune", "-f"),
                ("container", "prune", "-f"),
                ("system", "prune", "-a", "-f"),
                ("ps", "-a"),
                ("images",),
                ("system", "df"),
                ("inspect", image),
            )
        )
        done = rootless(*words)
        verb = " ".join(words[:2]) if words[0] in ("image", "container", "system") else words[0]
        if done.returncode == 0 and not re.search(r"(?m)^(warning|error):", done.stderr):
            yield f"{verb}\tfine"
        elif EXPECTED.search(done.stderr) and "internal error" not in done.stderr:
            yield f"{verb}\texpected"
        else:
            yield f"{verb}\tunexpected\t{done.returncode} {done.stderr!r} {words}"


def report(paths: Paths, logs: list[Path], failed: int) -> int:
    """Print what happened and whether the store is whole; the exit code."""
    lines = [line.split("\t") for log in logs for line in log.read_text().splitlines()]
    counted = Counter(line[0] for line in lines)
    verdicts = Counter(line[1] for line in lines)
    images.list(paths)
    containers.list(paths)
    faults = check.check(paths)
    prune.prune_system(paths, every=True)
    faults += check.check(paths)
    for line in lines:
        if line[1] == "unexpected":
            print("unexpected:", *line[2:], file=sys.stderr)
    for fault in faults:
        print("fault:", fault, file=sys.stderr)
    left = [name for name in ("blobs/sha256", "images", "refs", "containers", "names", "tmp")
            if os.listdir(f"{paths.data}/{name}")]  # fmt: skip
    print(" ".join(f"{verb}={count}" for verb, count in sorted(counted.items())))
    print(f"{len(lines)} commands, expected refusals={verdicts['expected']}, left={left}")
    print(f"unexpected={verdicts['unexpected'] + failed} faults={len(faults) + len(left)}")
    return 1 if verdicts["unexpected"] or failed or faults or left else 0


if __name__ == "__main__":
    sys.exit(main())
