# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci kill`."""

from __future__ import annotations

from rootless.cli.options import Option
from rootless.errors import UsageError
from rootless.runtime import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci kill [OPTIONS] CONTAINER [SIGNAL]"
DESCRIPTION = "Send a signal to a container (default TERM)"
OPTIONS = (
    Option("--all", "-a", help="Send it to all processes of the container"),
    Option("--regex", "-r", help="Refused: name the container"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Send the signal."""
    if options["regex"]:
        raise UsageError("--regex is not supported", hint="name the container")
    if not 1 <= len(arguments) <= 2:
        raise UsageError("kill takes a container id and a signal", hint="rootless-oci kill ID TERM")
    number = kill.signal_number(arguments[1] if len(arguments) == 2 else "TERM")
    kill.kill(context.root, arguments[0], number, everybody=options["all"])
    return 0
