# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for every source file and that neither ruff nor mypy knows; each names who breaks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from rootless import errors
from tests.lib.sources import CHECKOUT, files, name_of, tree

LICENCE = "SPDX-License-Identifier: Apache-2.0"
SCRIPTS = [path for path in files(below="scripts") if not path.suffix] + [CHECKOUT / ".ci" / "run"]
PYTHON = files(".py")
OURS = files(".py", below="rootless")
TESTS = [path for path in files(".py", below="tests") if path.name.startswith("test_")]
CODE = [*PYTHON, *files(".c", ".h", ".sh"), *SCRIPTS]
BINARY = (".png", ".gz", ".tar", ".zst")
# A module is named after one idea; these names say that there is none.
NAMELESS = {"base", "common", "core", "helpers", "manager", "misc", "util", "utils"}
# Put together here so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile("|".join(f"/{path}" for path in ("work/", "opt/rl", "tmp/brief")))


def breaking(paths: Iterable[Path], rule: Callable[[Path], object]) -> list[str]:
    """The files for which the rule says something truthy, and what it says."""
    return [f"{name_of(path)}: {said}" for path in paths if (said := rule(path))]


def test_file_names_its_licence_first() -> None:
    def lacks_licence(path: Path) -> bool:
        lines = path.read_text().splitlines()
        return LICENCE not in lines[1 if lines[0].startswith("#!") else 0]

    assert breaking(CODE, lacks_licence) == []


def test_module_says_what_it_owns() -> None:
    assert (
        breaking(PYTHON, lambda path: tree(path).body and not ast.get_docstring(tree(path))) == []
    )


def test_public_function_and_class_has_docstring() -> None:
    def wordless(path: Path) -> list[str]:
        return [
            node.name
            for node in tree(path).body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if not node.name.startswith("_") and not ast.get_docstring(node)
        ]

    assert breaking(OURS, wordless) == []


def test_module_is_named_after_an_idea() -> None:
    assert (
        breaking(OURS, lambda path: NAMELESS & {*Path(name_of(path)).with_suffix("").parts}) == []
    )


def test_module_with_annotations_postpones_them() -> None:
    def evaluates(path: Path) -> bool:
        nodes = ast.walk(tree(path))
        defines = any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in nodes)
        return defines and "from __future__ import annotations" not in path.read_text()

    assert breaking(OURS, evaluates) == []


def test_archive_is_never_unpacked_by_the_library() -> None:
    """tarfile's and shutil's ways out of the directory are closed and reopened every year."""

    def unpacks(path: Path) -> set[str]:
        used = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        return used & {"extractall", "extract", "unpack_archive"}

    assert breaking(OURS, unpacks) == []


def test_no_command_goes_through_a_shell() -> None:
    def shells(path: Path) -> list[int]:
        return [
            node.lineno
            for node in ast.walk(tree(path))
            if (isinstance(node, ast.keyword) and node.arg == "shell")
            or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.system", "os.popen"))
        ]

    assert breaking(PYTHON, shells) == []


def test_only_paths_knows_where_the_store_is() -> None:
    def knows(path: Path) -> list[str]:
        # The shells' own folders for completions lie in the same place and are nobody's store.
        text = path.read_text().replace(".local/share/bash-completion", "")
        return re.findall(r"\.local/share|XDG_DATA_HOME", text)

    assert breaking((path for path in OURS if path.name != "paths.py"), knows) == []


def test_tests_use_the_real_kernel_and_no_clock() -> None:
    def cheats(path: Path) -> list[int]:
        return [
            node.lineno
            for node in ast.walk(tree(path))
            if (isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep")
            or (isinstance(node, ast.Import) and "mock" in ast.unparse(node))
            or (isinstance(node, ast.ImportFrom) and "mock" in ast.unparse(node))
        ]

    assert breaking(TESTS, cheats) == []


def test_file_names_no_path_of_a_machine() -> None:
    texts = (path for path in files() if path.suffix not in BINARY)
    assert (
        breaking(texts, lambda path: MACHINE_PATHS.findall(path.read_text(errors="replace"))) == []
    )


def test_errors_are_drawn_as_they_are() -> None:
    """The tree in the docstring of rootless.errors names every class, under its parent."""
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│ ├└─]*)([A-Z]\w+)(?:\s{2,}\S|$)", line)
        if not match:
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        drawn[match[2]] = path[depth - 1] if depth else None
    real = {
        name: None if value is errors.RootlessError else value.__mro__[1].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.RootlessError)
    }
    assert drawn == real
