# SPDX-License-Identifier: Apache-2.0
"""The whole way of `run`, as a container really starts: no heavy module is loaded by a function either."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lib.command_line import CommandLine
from tests.lint.test_imports import BANNED_WHEN_HOT, PYTHON, SEARCH

SCRIPT = """\
import sys
sys.path += SEARCH
from rootless.cli.main import main
code = main(sys.argv[1:])
print(*sys.modules)
sys.exit(code)
"""


def loaded_by(rootless: CommandLine, *arguments: str | Path) -> set[str]:
    """The modules that the process of one command has loaded when it ends."""
    command = [*PYTHON, SCRIPT.replace("SEARCH", repr(SEARCH)), *arguments]
    done = subprocess.run(
        command, env=rootless.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.needs("userns", "overlay")
@pytest.mark.parametrize("flags", [[], ["--network=none"], ["--network=none", "-v", "/tmp:/mnt"]])
def test_run_of_directory_loads_nothing_heavy(
    rootless: CommandLine, rootfs: Callable[[], Path], flags: list[str]
) -> None:
    command = ["run", "--rm", *flags, "--rootfs", str(rootfs()), "true"]
    assert loaded_by(rootless, *command) & set(BANNED_WHEN_HOT.split()) == set()


@pytest.mark.needs("userns", "overlay")
def test_second_run_of_image_loads_nothing_heavy(rootless: CommandLine, image: str) -> None:
    command = ["run", "--rm", "--network=none", image, "true"]
    loaded_by(rootless, *command)  # the first may prepare what it finds missing
    assert loaded_by(rootless, *command) & set(BANNED_WHEN_HOT.split()) == set()
