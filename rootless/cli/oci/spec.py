# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci spec`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.errors import Conflict
from rootless.runtime import default_spec

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci spec [OPTIONS]"
DESCRIPTION = "Write an example configuration, config.json"
OPTIONS = (
    Option("--bundle", "-b", value="dir", default=".", help="Directory to write it to"),
    Option("--rootless", help="For a caller without root: with a user namespace"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Write config.json unless there is one."""
    path = os.path.join(options["bundle"], "config.json")
    text = json.dumps(default_spec.default(rootless=options["rootless"]), indent="\t") + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path} exists already", hint=f"rm {path}") from None
    return 0
