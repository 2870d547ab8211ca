# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the program does: the reference is generated and fresh, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from rootless import __version__
from rootless.cli.main import COMMANDS, command_options, load_command
from tests.lib.sources import CHECKOUT, files, name_of


def generator() -> ModuleType:
    """scripts/lib/reference.py as a module."""
    path = CHECKOUT / "scripts" / "lib" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_reference_is_fresh() -> None:
    """Run scripts/docs when this fails."""
    pages: dict[str, str] = generator().pages()
    stale = [
        name
        for name, text in pages.items()
        if not (CHECKOUT / name).exists() or (CHECKOUT / name).read_text() != text
    ]
    assert stale == []
    assert {name_of(page) for page in files(".1", below="docs/man")} <= set(pages)


@pytest.mark.parametrize("name", [name for name, (_, _, group) in COMMANDS.items() if group])
def test_command_and_its_options_are_in_the_reference(name: str) -> None:
    text = (CHECKOUT / "docs" / "reference" / "cli.md").read_text()
    section = text.partition(f"\n## rootless {name}\n")[2].partition("\n## ")[0]
    assert section
    told = set(re.findall(r"(?<![\w-])--?[\w-]+", section))
    wanted = {flag for option in command_options(load_command(name)) for flag in option.names}
    assert wanted <= told


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in files(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                broken.append(f"{name_of(path)}: {target}")
    assert broken == []


def test_changelog_has_an_entry_for_the_version() -> None:
    assert f"## [{__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text()
