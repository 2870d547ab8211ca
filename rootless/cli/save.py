# SPDX-License-Identifier: Apache-2.0
"""`rootless save`: images as one archive."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.output_file import output
from rootless.cli.progress import shown
from rootless.engine import images
from rootless.images.save import FORMATS
from rootless.oci import platform

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless save [OPTIONS] IMAGE [IMAGE...]"
DESCRIPTION = """\
Write images into one tar archive, to standard output or a file. Docker, podman and every reader of
OCI layouts can load it; layers go in as they came, each once."""
ARGUMENTS = (1, None)
COMPLETE = "image"
OPTIONS = (
    Option(
        "--format",
        value="format",
        default="docker",
        choices=(*FORMATS, "docker-archive", "oci-archive"),
        help="docker: an OCI layout that older docker reads as well; oci: the layout alone",
    ),
    Option("--output", "-o", value="string", help="Write to this file, not to standard output"),
    Option("--platform", value="string", help="Insist on this platform: os/arch[/variant]"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Write the archive; bars are shown where standard output is free for them."""
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    form = options["format"].removesuffix("-archive")
    with output(options["output"], "save") as write:
        quiet = options["output"] is None or not sys.stdout.isatty()
        with shown(quiet=quiet) as progress:
            images.save(paths, arguments, write, progress, form=form, platform=chosen)
    return 0
