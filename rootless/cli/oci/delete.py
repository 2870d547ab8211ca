# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci delete`."""

from __future__ import annotations

from rootless.cli.oci.main import only
from rootless.cli.options import Option
from rootless.runtime import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci delete [OPTIONS] CONTAINER"
DESCRIPTION = "Forget a stopped container"
OPTIONS = (Option("--force", "-f", help="Kill it first if it runs"),)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Delete a container."""
    kill.delete(context.root, only(arguments), force=options["force"])
    return 0
