# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci run`: create and start in one, and delete at the end. Hot."""

from __future__ import annotations

from rootless.cli.oci import create as create_verb
from rootless.cli.oci.main import only
from rootless.cli.options import Option
from rootless.runtime import create, kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci run [OPTIONS] CONTAINER"
DESCRIPTION = "Make a container of a bundle and run it"
OPTIONS = (
    *create_verb.OPTIONS,
    Option("--detach", "-d", help="Return as soon as the command runs"),
    Option("--keep", help="Do not delete the container at its end"),
    Option("--no-subreaper", help="Taken for compatibility"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Run a container; its exit code is ours, unless it is detached."""
    container_id = only(arguments)
    made = create_verb.parsed(options, context)
    made.detach = options["detach"]
    creation = create.Creation(context.root, container_id, made)
    if not options["detach"] and creation.config["process"].get("terminal"):
        return _run_on_terminal(creation, context.root, container_id, keep=options["keep"])
    creation.recipe.forwards_signals = not options["detach"]
    process = creation.launch(wait_at_gate=False)
    if options["detach"]:
        return 0
    code = process.wait()
    if not options["keep"]:
        kill.delete(context.root, container_id)
    return code


def _run_on_terminal(creation: create.Creation, root: str, container_id: str, *, keep: bool) -> int:
    """The caller's terminal serves the container's."""
    from rootless.runtime import foreground

    creation.serves_terminal = True
    creation.recipe.forwards_signals = True
    code = foreground.run(
        creation.recipe, True, True, lambda _: creation.launch(wait_at_gate=False)
    )
    if not keep:
        kill.delete(root, container_id)
    return code
