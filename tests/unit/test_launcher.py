# SPDX-License-Identifier: Apache-2.0
"""helpers/launcher.c and launcher.sh: which interpreter and package they start, and with what."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.abilities import find_program

HELPERS = Path(__file__).parents[2] / "helpers"
VERSION = f"python3.{sys.version_info.minor}"
SHOW = """\
import sys
print(sys.flags.isolated, sys.flags.no_site, sys.argv[1:], sys.executable)
"""


@pytest.fixture(params=["c", "sh"], scope="module")
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both forms of the launcher, compiled where that is needed."""
    program = tmp_path_factory.mktemp("launcher") / "launcher"
    if request.param == "sh":
        shutil.copy(HELPERS / "launcher.sh", program)
        program.chmod(0o755)
        return program
    compiler = find_program("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    subprocess.run([compiler, "-std=c11", "-o", program, HELPERS / "launcher.c"], check=True)
    return program


@pytest.fixture
def prefix(tmp_path: Path, launcher: Path) -> Path:
    """An installation as pip lays it out, with a package that shows how it was started."""
    package = tmp_path / "prefix" / "lib" / VERSION / "site-packages" / "rootless"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(SHOW)
    bin_ = tmp_path / "prefix" / "bin"
    bin_.mkdir()
    for name in ("rootless", "rootless-oci"):
        shutil.copy(launcher, bin_ / name)
    return tmp_path / "prefix"


def with_python(prefix: Path) -> Path:
    """Puts an interpreter beside the launcher, as a virtual environment does."""
    (prefix / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    return prefix


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", **environ}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_launcher_starts_interpreter_beside_it(prefix: Path) -> None:
    done = run(with_python(prefix) / "bin" / "rootless", "run", "--rm", "a b", "")
    assert done.stdout == f"1 1 ['run', '--rm', 'a b', ''] {prefix}/bin/python3\n"


def test_launcher_through_link_finds_its_own_prefix(prefix: Path, tmp_path: Path) -> None:
    with_python(prefix)
    (tmp_path / "one").symlink_to(prefix / "bin" / "rootless")
    (tmp_path / "two").symlink_to("one")
    assert run(tmp_path / "two", "x").stdout.startswith("1 1 ['x']")


def test_launcher_on_path_finds_its_own_prefix(prefix: Path) -> None:
    with_python(prefix)
    done = run("/usr/bin/env", "rootless", "x", PATH=f"{prefix}/bin:/usr/bin:/bin")
    assert done.stdout.startswith("1 1 ['x']")


def test_launcher_as_oci_marks_the_arguments(prefix: Path) -> None:
    done = run(with_python(prefix) / "bin" / "rootless-oci", "state", "c")
    assert done.stdout.startswith("1 1 ['@rootless-oci', 'state', 'c']")


def test_launcher_without_python_beside_it_takes_path(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "python3").symlink_to(os.path.realpath(sys.executable))
    done = run(prefix / "bin" / "rootless", PATH=f"{tmp_path}/elsewhere:/usr/bin:/bin")
    assert done.stdout.startswith("1 1 []")


def test_launcher_ignores_python_variables_and_cwd(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "sys_trap.py").write_text("raise SystemExit('trapped')")
    done = run(
        with_python(prefix) / "bin" / "rootless",
        PYTHONPATH=str(tmp_path),
        PYTHONSTARTUP=str(tmp_path / "sys_trap.py"),
        PYTHONHOME="/nonexistent",
    )
    assert (done.returncode, done.stdout[:3]) == (0, "1 1")


def test_launcher_without_package_says_how_to_mend(prefix: Path) -> None:
    shutil.rmtree(prefix / "lib")
    done = run(with_python(prefix) / "bin" / "rootless")
    assert done.returncode == 127
    assert done.stderr.startswith("rootless: cannot find the Python package `rootless` in ")
    assert "\nhint: install it again: " in done.stderr


def test_launcher_without_any_python_says_so(prefix: Path, tmp_path: Path) -> None:
    for tool in ("readlink", "sh"):  # what the script form needs
        (tmp_path / tool).symlink_to(str(find_program(tool)))
    done = run(prefix / "bin" / "rootless", PATH=str(tmp_path))
    assert done.returncode == 127
    assert done.stderr.startswith(f"rootless: cannot find python3 in {prefix}/bin or on PATH\n")
