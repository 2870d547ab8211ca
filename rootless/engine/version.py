# SPDX-License-Identifier: Apache-2.0
"""The versions of this program and of what it runs on."""

from __future__ import annotations

import os
import sys

from rootless import __version__
from rootless.oci import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def python_version() -> str:
    """The interpreter's version, such as 3.11.2."""
    return ".".join(map(str, sys.version_info[:3]))


def version() -> dict[str, Any]:
    """What `rootless version` tells: there is no server, so both halves are this program."""
    here = platform.host()
    client = {
        "Version": __version__,
        "PythonVersion": python_version(),
        "Interpreter": os.path.realpath(sys.executable),
        "Os": here.os,
        "Arch": here.architecture,
    }
    engine = {
        "Version": __version__,
        "KernelVersion": os.uname().release,
        "Os": here.os,
        "Arch": here.architecture,
    }
    return {"Client": client, "Server": engine}
