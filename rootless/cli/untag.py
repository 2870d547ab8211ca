# SPDX-License-Identifier: Apache-2.0
"""`rootless untag`: an image without some of its names."""

from __future__ import annotations

from rootless.engine import images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless untag IMAGE [NAME...]"
DESCRIPTION = """\
Take the names that are given from an image, or all of its names. The image stays and is found by
its id; `rootless rmi` deletes it."""
ARGUMENTS = (1, None)
COMPLETE = "image"
OPTIONS: tuple[Option, ...] = ()


def run(_options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Take the names and print them."""
    for name in images.untag(paths, arguments[0], arguments[1:]):
        print(f"Untagged: {name}")
    return 0
