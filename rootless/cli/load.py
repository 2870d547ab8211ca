# SPDX-License-Identifier: Apache-2.0
"""`rootless load`: images from an archive of docker, podman or any OCI tool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.progress import shown
from rootless.engine import images
from rootless.errors import UsageError
from rootless.oci import platform

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless load [OPTIONS]"
DESCRIPTION = "Load images from a tar archive (docker or OCI, compressed or not) or an OCI layout."
ARGUMENTS = (0, 0)
OPTIONS = (
    Option("--input", "-i", value="string", help="Read this file or directory, not standard input"),
    Option(
        "--platform", value="string", help="Take the image for this platform: os/arch[/variant]"
    ),
    Option("--quiet", "-q", help="Print the names of the images only"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Load every image of the archive and print what each is called."""
    source = options["input"] or "-"
    if source == "-" and sys.stdin.isatty():
        raise UsageError(
            "requested load from stdin, but stdin is a terminal",
            hint="name the archive: rootless load -i FILE",
        )
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    # The bars are for a person; what is loaded is for a script as well.
    with shown(quiet=options["quiet"] or not sys.stdout.isatty()) as progress:
        loaded = images.load(paths, source, chosen, progress)
    for each in loaded:
        print(
            f"Loaded image: {each.name}" if each.name else f"Loaded image ID: {each.record['id']}"
        )
    return 0
