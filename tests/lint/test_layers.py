# SPDX-License-Identifier: Apache-2.0
"""Imports point down: a package imports itself or a lower floor, never a sibling and never up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.lib.sources import CHECKOUT, files, name_of, tree

FLOORS = (  # lowest first; `errors` is below all and knows nobody
    {"errors", "preload"},
    {"paths", "log"},
    {"linux", "oci"},
    {"configuration"},
    {"runtime"},
    {"storage", "network"},
    {"images"},
    {"build"},
    {"engine"},
    {"cli", "api"},
    {"__main__"},
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
PACKAGE = CHECKOUT / "rootless"


def home_of(path: Path) -> str:
    """The package, or the plain module, right below `rootless` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, what is imported right below `rootless`), imports within functions included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "rootless":
            names = [f"rootless.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            # `from rootless import __version__` is a fact of the package, on no floor.
            if root == "rootless" and rest and not rest.startswith("__"):
                yield node.lineno, rest.partition(".")[0]


SOURCES = [path for path in files(".py", below="rootless") if path != PACKAGE / "__init__.py"]


def test_imports_point_down() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {home_of(path)} imports {other}"
        for path in SOURCES
        for line, other in imports(path)
        if other != home_of(path) and HEIGHT[other] >= HEIGHT[home_of(path)]
    ]
    assert wrong == []


def test_every_package_has_a_floor() -> None:
    assert {home_of(path) for path in SOURCES} <= set(HEIGHT)
