# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci state`."""

from __future__ import annotations

from rootless.cli.oci.main import only
from rootless.oci import document
from rootless.runtime.container import Container, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci state CONTAINER"
DESCRIPTION = "Print the state of a container, as JSON"
OPTIONS = ()


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Print the state."""
    stored = Container(context.root, only(arguments)).state()
    print(document.dumps(public(stored)).decode())
    return 0
