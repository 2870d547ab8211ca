# SPDX-License-Identifier: Apache-2.0
"""`rootless import`: an image of one layer from the archive of a root file system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.engine import images
from rootless.images.progress import Silent
from rootless.oci import platform, reference

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless import [OPTIONS] FILE|- [REPOSITORY[:TAG]]"
DESCRIPTION = "Make an image of a root file system archive (tar, compressed or not)."
ARGUMENTS = (1, 2)
OPTIONS = (
    Option(
        "--change",
        "-c",
        value="list",
        many=True,
        help="Apply an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR",
    ),
    Option("--message", "-m", value="string", help="Say where the image comes from"),
    Option("--platform", value="string", help="Say what the image runs on: os/arch[/variant]"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Import one archive and print the id of the image."""
    name = reference.parse(arguments[1]) if len(arguments) > 1 else None
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    record = images.import_(
        paths,
        arguments[0],
        name,
        changes=options["change"],
        message=options["message"] or "",
        platform=chosen,
        progress=Silent(),
    )
    print(record["id"])
    return 0
