# SPDX-License-Identifier: Apache-2.0
"""Doing one thing to each object a command line names, as docker does: all of them, whatever fails."""

from __future__ import annotations

from rootless.cli.main import report
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def for_each(names: Iterable[str], action: Callable[[str], None]) -> int:
    """Call `action` with every name and report what fails; the exit code of the last failure, or 0."""
    code = 0
    for name in names:
        try:
            action(name)
        except (RootlessError, OSError) as problem:
            if isinstance(problem, BrokenPipeError):
                raise
            code = report(problem)
    return code
