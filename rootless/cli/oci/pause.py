# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci pause`."""

from __future__ import annotations

from rootless.cli.oci.main import only
from rootless.runtime import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci pause CONTAINER"
DESCRIPTION = "Freeze all processes of a container"
OPTIONS = ()


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Freeze all processes of a container."""
    kill.pause(context.root, only(arguments))
    return 0
