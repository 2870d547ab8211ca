# SPDX-License-Identifier: Apache-2.0
"""Imports out of one file: found there first, and harmless when the file is missing or foreign."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rootless import preload

SOURCES = {
    "rootless": (True, "mark = 'packed'"),
    "rootless.odd": (False, "from rootless import mark\nvalue = mark + ' module'"),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package named rootless whose sources say something else than its packed form."""
    directory = tmp_path / "rootless"
    (directory / "bin").mkdir(parents=True)
    (directory / "__init__.py").write_text("mark = 'source'")
    (directory / "odd.py").write_text("from rootless import mark\nvalue = mark + ' file'")
    return directory


def imported(package: Path) -> str:
    """What `rootless.odd` says in an interpreter of its own that has installed the file."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(preload.__file__).parent)!r}); import preload;"
        f"sys.path[0] = {str(package.parent)!r}; preload.install({str(package)!r});"
        "import rootless.odd as odd; print(odd.value, odd.__file__, odd.__spec__.origin, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def packed() -> bytes:
    modules = {
        name: (is_package, compile(source, name, "exec"))
        for name, (is_package, source) in SOURCES.items()
    }
    return preload.pack(modules)


def test_modules_come_out_of_the_file(package: Path) -> None:
    (package / "bin" / preload.file_name()).write_bytes(packed())
    place = f"{package}/odd.py"
    assert imported(package) == f"packed module|{place}|{place}"


def test_without_the_file_imports_are_ordinary(package: Path) -> None:
    assert imported(package).startswith("source file|")


def test_the_file_of_another_python_is_left_alone(package: Path) -> None:
    (package / "bin" / preload.file_name()).write_bytes(b"\0\0\0\0" + packed()[4:])
    assert imported(package).startswith("source file|")
