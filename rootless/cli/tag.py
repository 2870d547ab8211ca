# SPDX-License-Identifier: Apache-2.0
"""`rootless tag`: one more name for an image."""

from __future__ import annotations

from rootless.engine import images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
DESCRIPTION = "Give an image one more name. A name that another image had moves to this one."
ARGUMENTS = (2, 2)
COMPLETE = "image"
OPTIONS: tuple[Option, ...] = ()


def run(_options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Name the image; says nothing."""
    images.tag(paths, *arguments)
    return 0
