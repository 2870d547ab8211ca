# SPDX-License-Identifier: Apache-2.0
"""`rootless manifest rm`: manifest lists, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.each import for_each
from rootless.engine import manifests

if TYPE_CHECKING:
    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless manifest rm MANIFEST_LIST [MANIFEST_LIST...]"
DESCRIPTION = "Forget manifest lists that are put together here; a registry keeps what it has."
ARGUMENTS = (1, None)
COMPLETE = "manifest"
OPTIONS: tuple[Option, ...] = ()


def run(_options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Forget each list; go on after a failure."""
    return for_each(arguments, lambda name: manifests.remove(paths, name))
