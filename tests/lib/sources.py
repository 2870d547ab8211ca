# SPDX-License-Identifier: Apache-2.0
"""The files of the checkout, as the lint tests read them."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
_BUILT = {CHECKOUT / "build", CHECKOUT / "dist", CHECKOUT / "rootless" / "bin"}


def files(*suffixes: str, below: str = "") -> list[Path]:
    """Every file of the project with one of `suffixes` (all if none), sorted; nothing that was built."""
    return sorted(
        path for path in _walk(CHECKOUT / below) if not suffixes or path.suffix in suffixes
    )


def _walk(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if here / name not in _BUILT
            and (name == ".ci" or not name.startswith("."))
            and name != "__pycache__"
            and not name.endswith(".egg-info")
        ]
        yield from (here / name for name in names if not name.startswith("."))


def name_of(path: Path) -> str:
    """A file's path from the checkout: how tests call it."""
    return str(path.relative_to(CHECKOUT))


def modules(below: str) -> tuple[str, ...]:
    """The dotted names of the modules below a folder, packages left out."""
    paths = (path.relative_to(CHECKOUT).with_suffix("") for path in files(".py", below=below))
    return tuple(".".join(path.parts) for path in paths if path.name != "__init__")


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(), str(path))
