# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci resume`."""

from __future__ import annotations

from rootless.cli.oci.main import only
from rootless.runtime import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci resume CONTAINER"
DESCRIPTION = "Undo pause"
OPTIONS = ()


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Undo pause."""
    kill.resume(context.root, only(arguments))
    return 0
