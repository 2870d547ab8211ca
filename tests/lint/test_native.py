# SPDX-License-Identifier: Apache-2.0
"""C and shell: what the compiler and shellcheck have to say is an error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lib.abilities import find_program
from tests.lib.sources import CHECKOUT, files, name_of

SCRIPTS = [path for path in files(below="scripts") if not path.suffix] + [
    CHECKOUT / ".ci" / "run",
    *files(".sh", below="helpers"),
]


@pytest.mark.needs("cc")
@pytest.mark.parametrize("path", files(".c"), ids=name_of)
def test_c_compiles_without_a_warning(path: Path) -> None:
    command = [str(find_program("cc")), "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow",
               "-Werror", str(path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_shellcheck_has_no_complaint(path: Path) -> None:
    command = [str(find_program("shellcheck")), "--external-sources", str(path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stdout == ""
