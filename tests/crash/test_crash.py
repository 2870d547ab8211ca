# SPDX-License-Identifier: Apache-2.0
"""Commands killed at their system calls, a full disk, and many commands at once: the store survives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rootless.linux.abi import MACHINE
from tests.lib import supervisor

pytestmark = pytest.mark.needs("userns", "cc")
CHECKOUT = Path(__file__).parents[2]


def drive(*words: str) -> str:
    """Run a program of this folder, which prints what was lost, broken or leaked."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=900
    )
    print(done.stdout)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-8000:]}"
    return done.stdout


@pytest.mark.skipif(MACHINE not in supervisor.MACHINES, reason="system calls are not numbered here")
def test_kill_at_any_change_loses_and_leaks_nothing() -> None:
    last = drive("tests.crash", "300").splitlines()[-1]
    assert "lost=0 broken=0 leaked=0" in last


def test_many_commands_at_once_agree() -> None:
    assert "unexpected=0 faults=0" in drive("tests.crash.stress", "20").splitlines()[-1]
