# SPDX-License-Identifier: Apache-2.0
"""The benchmark: `python -m tests.bench`, which scripts/bench prepares. Prints one table.

Every figure is a median of runs taken in turns; a target is the most that the ratio of ours to a
peer's may be. Exit 0 whatever the figures are, unless --strict.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rootless.images import records
from rootless.paths import Paths
from tests.bench import images, measure, peers
from tests.lib import abilities, registry

OURS = "rootless"


@dataclass
class Row:
    """One line of the table: figures by program, and the targets for ours."""

    title: str
    unit: str
    figures: dict[str, float]
    targets: dict[str, float] = field(default_factory=dict)  # peer -> most that ours/theirs may be
    limit: float | None = None  # most that ours may be by itself

    @property
    def ratios(self) -> dict[str, float]:
        """Ours divided by each peer's."""
        ours = self.figures[OURS]
        return {name: ours / value for name, value in self.figures.items() if name != OURS}

    @property
    def is_met(self) -> bool:
        """Whether every target of this row is reached."""
        bound = self.limit is None or self.figures[OURS] <= self.limit
        return bound and all(self.ratios[peer] <= most for peer, most in self.targets.items())


class Bench:
    """What the cases share: a registry with the images, the work directory, how many rounds."""

    def __init__(self, work: Path, host: str, *, rounds: int, slow_rounds: int) -> None:
        self.images = work / "images"
        self.stores = work / "stores"
        self.small = f"{host}/small:latest"
        self.large = f"{host}/large:latest"
        self.rounds = rounds
        self.slow_rounds = slow_rounds

    def engines(
        self, stack: contextlib.ExitStack, case: str, driver: str = "overlay"
    ) -> list[peers.Engine]:
        """Ours and podman, both with `driver` ("overlay" or "fuse") and stores of this case alone."""
        ours = {"overlay": "overlay", "fuse": "fuse-overlayfs"}[driver]
        engines: list[peers.Engine] = [
            peers.Rootless(self.stores / case / "rootless", ours),
            peers.Podman(self.stores / case / "podman", driver),
        ]
        for engine in engines:
            stack.callback(engine.close)
        return engines


def case_run(bench: Bench) -> Row:
    """`run` with the kernel's overlayfs, and what a bare runtime and bubblewrap take."""
    layout = bench.images / "small"
    with contextlib.ExitStack() as stack:
        engines = bench.engines(stack, "run")
        for engine in engines:
            engine.pull(bench.small)
        contenders = [engine.running(bench.small) for engine in engines]
        contenders.append(peers.crun(layout, bench.stores / "bundle"))
        contenders.append(peers.bubblewrap(layout, bench.stores / "rootfs"))
        figures = measure.medians(contenders, bench.rounds)
    return Row("run --rm --network=none IMAGE true", "ms", scaled(figures, 1e3),
               {"podman": 0.20, "crun": 2.5})  # fmt: skip


def case_fuse(bench: Bench) -> Row:
    """The same with fuse-overlayfs on both sides."""
    with contextlib.ExitStack() as stack:
        engines = bench.engines(stack, "fuse", "fuse")
        for engine in engines:
            engine.pull(bench.small)
        contenders = [engine.running(bench.small) for engine in engines]
        figures = measure.medians(contenders, bench.rounds)
    return Row("the same with fuse-overlayfs", "ms", scaled(figures, 1e3), {"podman": 0.6})


def case_bundle(bench: Bench) -> Row:
    """The runtime alone: `run` of a bundle."""
    return Row("rootless-oci run", "ms", scaled(runtimes(bench, peers.Runtime.running), 1e3),
               {"crun": 2.0})  # fmt: skip


def case_steps(bench: Bench) -> Row:
    """The runtime as engines call it."""
    figures = runtimes(bench, peers.Runtime.step_by_step)
    return Row("rootless-oci create, start, delete", "ms", scaled(figures, 1e3), {"crun": 3.0})


def runtimes(
    bench: Bench, contender: Callable[[peers.Runtime], measure.Contender]
) -> dict[str, float]:
    """The medians of ours and crun, each with a bundle of its own."""
    layout = bench.images / "small"
    made = [peers.Runtime(name, layout, bench.stores / f"bundle-{name}") for name in (OURS, "crun")]
    return measure.medians([contender(each) for each in made], bench.rounds)


def case_exec(bench: Bench) -> Row:
    """One more process in a container that runs."""
    layout = bench.images / "small"
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in (OURS, "crun"):
            runtime = peers.Runtime(name, layout, bench.stores / f"exec-{name}")
            contenders.append(runtime.entering())
            stack.callback(runtime.end)
        figures = measure.medians(contenders, bench.rounds)
    return Row("rootless-oci exec", "ms", scaled(figures, 1e3), limit=25.0)


def case_seccomp(bench: Bench) -> Row:
    """What the default filter adds to a start, once it has been compiled and kept."""
    engine = peers.Rootless(bench.stores / "seccomp", "overlay")
    engine.pull(bench.small)
    bare = engine.running(bench.small, "--security-opt=seccomp=unconfined")
    contenders = [engine.running(bench.small), replace(bare, name="unconfined")]
    figures = measure.medians(contenders, 2 * bench.rounds)
    share = figures[OURS] - figures["unconfined"]
    return Row("the filter's share of run", "ms", {OURS: share * 1e3}, limit=1.0)


def case_pull(bench: Bench) -> Row:
    """A pull of 200 MB in 10,000 files from a registry on this machine."""
    with contextlib.ExitStack() as stack:
        contenders = [engine.pulling(bench.large) for engine in bench.engines(stack, "pull")]
        figures = measure.medians(contenders, bench.slow_rounds)
    return Row("pull of 200 MB, 10,000 files", "s", figures, {"podman": 1.0})


def case_memory(bench: Bench) -> Row:
    """The most memory that all processes of that pull hold together."""
    with contextlib.ExitStack() as stack:
        contenders = [engine.pulling(bench.large) for engine in bench.engines(stack, "memory")]
        figures = {each.name: measure.peak_memory(each) for each in contenders}
    return Row("peak memory of that pull", "MB", scaled(figures, 1e-6), limit=100.0)


def case_again(bench: Bench) -> Row:
    """A pull of a tag that has not changed: what every `pull` before a run costs."""
    with contextlib.ExitStack() as stack:
        engines = bench.engines(stack, "again")
        for engine in engines:
            engine.pull(bench.small)
        figures = measure.medians([e.pulling_again(bench.small) for e in engines], bench.rounds)
    return Row("pull of an unchanged tag", "ms", scaled(figures, 1e3), limit=60.0)


def case_push(bench: Bench) -> Row:
    """A push of that image to a registry that is empty."""
    place = bench.stores / "push" / "registry"
    place.mkdir(parents=True)

    def empty() -> None:
        shutil.rmtree(place / "registry", ignore_errors=True)
        os.sync()

    with contextlib.ExitStack() as stack:
        host = stack.enter_context(registry.serving(place))
        engines = bench.engines(stack, "push")
        for engine in engines:
            engine.pull(bench.large)
            engine.output("tag", bench.large, f"{host}/large")
        contenders = [engine.pushing(f"{host}/large", empty) for engine in engines]
        figures = measure.medians(contenders, bench.slow_rounds)
    return Row("push of 200 MB, 10,000 files", "s", figures, {"podman": 0.8})


def case_images(bench: Bench) -> Row:
    """The list of 500 images."""
    with contextlib.ExitStack() as stack:
        ours, _ = bench.engines(stack, "images")
        ours.pull(bench.small)
        paths = Paths(ours.environ["ROOTLESS_ROOT"], ours.environ["ROOTLESS_RUN"])
        (first,) = records.list_images(paths)
        for number in range(1, 500):
            image_id = f"sha256:{number:064x}"
            records.save(paths, {**first, "id": image_id})
            records.tag(paths, f"docker.io/library/image{number}:latest", image_id)
        listing = measure.Contender(ours.name, [*ours.command, "images"], ours.environ)
        figures = measure.medians([listing], bench.rounds)
    return Row("images, 500 of them", "ms", scaled(figures, 1e3), limit=60.0)


CASES: dict[str, tuple[Callable[[Bench], Row], tuple[str, ...]]] = {
    "run": (case_run, ("overlay", "podman", "crun")),
    "fuse": (case_fuse, ("fuse", "podman")),
    "bundle": (case_bundle, ("crun",)),
    "steps": (case_steps, ("crun",)),
    "exec": (case_exec, ("crun",)),
    "seccomp": (case_seccomp, ("overlay", "libseccomp")),
    "pull": (case_pull, ("podman",)),
    "memory": (case_memory, ("podman",)),
    "again": (case_again, ("podman",)),
    "push": (case_push, ("podman",)),
    "images": (case_images, ("podman",)),
}


def scaled(figures: dict[str, float], factor: float) -> dict[str, float]:
    """The same figures in another unit."""
    return {name: value * factor for name, value in figures.items()}


def table(rows: list[Row]) -> str:
    """The rows as text: ours, each peer with the ratio to it, the targets and whether they are met."""
    heads = ("", OURS, "podman", "crun", "bwrap", "targets")
    cells: list[tuple[str, ...]] = [heads]
    for row in rows:
        told = [f"{row.figures[OURS]:.1f} {row.unit}"]
        for peer in heads[2:5]:
            figure = row.figures.get(peer)
            told.append("" if figure is None else f"{figure:.1f} (x{row.ratios[peer]:.2f})")
        targets = [f"x{most:.2f} {peer}" for peer, most in row.targets.items()]
        if row.limit is not None:
            targets.append(f"{row.limit:.0f} {row.unit}")
        verdict = "met: " if row.is_met else "MISSED: "
        cells.append((row.title, *told, verdict + ", ".join(targets)))
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def prepared(work: Path) -> Path:
    """The directory of the images, made once and kept."""
    target = work / "images"
    for name, make in (("small", images.small), ("large", images.large)):
        if not (target / name / "oci-layout").exists():  # written last
            print(f"making the image {name}", file=sys.stderr)
            make(target / name)
    return target


def measured(bench: Bench, names: list[str]) -> list[Row]:
    """The rows of the cases that this machine can do; the others are explained on standard error."""
    rows = []
    for name in names:
        case, needs = CASES[name]
        lacking = [reason for ability in needs if (reason := abilities.missing(ability))]
        if lacking:
            print(f"{name}: left out: {'; '.join(lacking)}", file=sys.stderr)
            continue
        print(f"measuring: {name}", file=sys.stderr)
        try:
            rows.append(case(bench))
        except measure.CommandFailed as problem:
            print(f"{name}: left out: {problem}", file=sys.stderr)
    return rows


def main() -> int:
    """Measure and print; 1 with --strict when a target is missed or a case could not be done."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--quick", action="store_true", help="few rounds: a first impression")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    names = options.cases or list(CASES)
    if unknown := set(names) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    work = Path(cache, "rootless-bench")
    work.mkdir(parents=True, exist_ok=True)
    layouts = prepared(work)
    with registry.serving(work) as host:
        for name in ("small", "large"):
            registry.copy(f"oci:{layouts / name}:latest", f"docker://{host}/{name}:latest")
        rounds, slow_rounds = (5, 1) if options.quick else (31, 5)
        bench = Bench(work, host, rounds=rounds, slow_rounds=slow_rounds)
        peers.remove(bench.stores)  # of a run that was interrupted
        try:
            rows = measured(bench, names)
        finally:
            peers.remove(bench.stores)
    print(table(rows))
    if options.json:
        told = [{**asdict(row), "ratios": row.ratios, "is_met": row.is_met} for row in rows]
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    is_good = len(rows) == len(names) and all(row.is_met for row in rows)
    return 0 if is_good or not options.strict else 1


if __name__ == "__main__":
    sys.exit(main())
