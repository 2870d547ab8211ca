# SPDX-License-Identifier: Apache-2.0
"""The start of `python3 -I -S …/rootless/__main__.py`; compiled at every start, so kept short."""

from __future__ import annotations

import os
import sys

if not __package__:  # started by path: -I keeps the script's directory off sys.path, -S the rest
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(here))
    from rootless import preload

    preload.install(here)

if sys.argv[1:2] == ["@rootless-oci"]:  # what the launcher of that name puts first
    from rootless.cli.oci.main import main

    del sys.argv[1]
else:
    from rootless.cli.main import main

if sys.stdout is not None:
    # A terminal whose encoding lacks a character gets its escape, not an error.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
code = main(sys.argv[1:])
for stream in (sys.stdout, sys.stderr):
    if stream is not None:
        stream.flush()
os._exit(code)  # nothing is left to finalize, and doing it costs a tenth of a container start
