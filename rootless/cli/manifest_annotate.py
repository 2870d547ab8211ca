# SPDX-License-Identifier: Apache-2.0
"""`rootless manifest annotate`: which platform an entry of a list is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.engine import manifests

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless manifest annotate [OPTIONS] MANIFEST_LIST IMAGE"
DESCRIPTION = "Say which platform an entry of a manifest list is for, where its config does not."
ARGUMENTS = (2, 2)
COMPLETE = "manifest image"
OPTIONS = (
    Option("--arch", value="string", help="Set the architecture"),
    Option("--os", value="string", help="Set the operating system"),
    Option("--os-features", value="strings", many=True, help="Set features of the system"),
    Option("--os-version", value="string", help="Set the version of the operating system"),
    Option("--variant", value="string", help="Set the variant of the architecture"),
)
_KEYS = {"arch": "architecture", "os": "os", "os_version": "os.version", "variant": "variant"}


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Change the entry; says nothing."""
    changes: dict[str, Any] = {
        key: options[name] for name, key in _KEYS.items() if options[name] is not None
    }
    if options["os_features"]:
        changes["os.features"] = [
            each for text in options["os_features"] for each in text.split(",")
        ]
    name, member = arguments
    manifests.annotate(paths, name, member, changes)
    return 0
