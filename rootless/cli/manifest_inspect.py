# SPDX-License-Identifier: Apache-2.0
"""`rootless manifest inspect`: a manifest or a list, as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.engine import manifests

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless manifest inspect [OPTIONS] NAME"
DESCRIPTION = "Show a manifest list that is put together here, or what a registry has under a name."
ARGUMENTS = (1, 1)
COMPLETE = "manifest image"
OPTIONS = (
    Option("--insecure", help="Do not check the registry's certificate; also allow plain http"),
    Option("--verbose", "-v", help="Show every manifest with its descriptor"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print the document."""
    found = manifests.inspect(
        paths,
        arguments[0],
        is_verbose=options["verbose"],
        verify_tls=not options["insecure"],
    )
    print(json.dumps(found, indent="\t", ensure_ascii=False))
    return 0
