# SPDX-License-Identifier: Apache-2.0
"""`rootless manifest push`: a manifest list into its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.engine import manifests

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless manifest push [OPTIONS] MANIFEST_LIST"
DESCRIPTION = "Upload a manifest list, with what the repository lacks of its images."
ARGUMENTS = (1, 1)
COMPLETE = "manifest"
OPTIONS = (
    Option("--insecure", help="Do not check the registry's certificate; also allow plain http"),
    Option("--purge", "-p", help="Forget the list here afterwards"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Send the list and print its digest."""
    verify_tls = not options["insecure"]
    digest = manifests.push(
        paths, arguments[0], print, purge=options["purge"], verify_tls=verify_tls
    )
    print(digest)
    return 0
