# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci start`."""

from __future__ import annotations

from rootless.cli.oci.main import only
from rootless.runtime import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci start CONTAINER"
DESCRIPTION = "Start the command of a created container"
OPTIONS = ()


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Start a container."""
    create.start(context.root, only(arguments))
    return 0
