# SPDX-License-Identifier: Apache-2.0
"""`rootless manifest create`: a manifest list of images that a registry has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.engine import manifests

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless manifest create [OPTIONS] MANIFEST_LIST IMAGE [IMAGE...]"
DESCRIPTION = """\
Put together a manifest list: one name for images of several platforms. The images are in a registry
already; the list goes there by `rootless manifest push`."""
ARGUMENTS = (2, None)
COMPLETE = "manifest image"
OPTIONS = (
    Option("--amend", "-a", help="Add to a list that is there"),
    Option("--insecure", help="Do not check the registry's certificate; also allow plain http"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Make the list and name it."""
    name, *members = arguments
    verify_tls = not options["insecure"]
    made = manifests.create(paths, name, members, amend=options["amend"], verify_tls=verify_tls)
    print(f"Created manifest list {made}")
    return 0
