# SPDX-License-Identifier: Apache-2.0
"""Asking before something is deleted, in docker's words; and telling afterwards how much went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rootless.cli.table import human_size
from rootless.errors import Conflict

if TYPE_CHECKING:
    from rootless.engine.prune import Pruned


def confirm(warning: str, command: str) -> None:
    """Go on only after a yes on standard input; raises Conflict otherwise."""
    print(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    try:
        answer = input()
    except EOFError:
        print()
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise Conflict(
            f"{command} was cancelled", hint=f"answer y, or do not ask: rootless {command} -f"
        )


def bulleted(lines: Sequence[str]) -> str:
    """`This will remove:` and a list."""
    return "This will remove:\n" + "".join(f"  - {line}\n" for line in lines)


def tell(pruned: Pruned) -> None:
    """Print what went."""
    if pruned.containers:
        print("Deleted Containers:", *pruned.containers, sep="\n", end="\n\n")
    if pruned.images:
        print("Deleted Images:")
        for event in pruned.images:
            for what, subject in event.items():
                print(f"{what.lower()}: {subject}")
        print()
    print(f"Total reclaimed space: {human_size(pruned.reclaimed)}")
