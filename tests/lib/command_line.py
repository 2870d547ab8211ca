# SPDX-License-Identifier: Apache-2.0
"""The command line as a test drives it: the installed `rootless` on a store of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rootless.paths import Paths

PACKAGE = Path(__file__).parents[2] / "rootless"
TIME_LIMIT = 120.0  # seconds; only a hang reaches it


def program() -> list[str]:
    """The installed command of this interpreter's environment, or the checkout run the same way."""
    installed = Path(sys.executable).with_name("rootless")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-I", str(PACKAGE / "__main__.py")]


class CommandLine:
    """Runs `rootless ARGS` with ROOTLESS_ROOT and ROOTLESS_RUN set and nothing else of ours."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROOTLESS_")}
        self.environ = {**inherited, "ROOTLESS_ROOT": paths.data, "ROOTLESS_RUN": paths.run}

    def __call__(
        self,
        *arguments: str | os.PathLike[str],
        input: str | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end with the text `input` on standard input (else /dev/null); judges nothing."""
        return subprocess.run(
            [*program(), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            env={**self.environ, **(environ or {})},
            cwd=cwd,
            timeout=TIME_LIMIT,
        )

    def ok(self, *arguments: str | os.PathLike[str], **settings: Any) -> str:
        """Standard output of a command that has to succeed."""
        done = self(*arguments, **settings)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr or done.stdout}"
        return done.stdout

    def json(self, *arguments: str | os.PathLike[str], **settings: Any) -> Any:
        """The JSON document that a command prints, such as `run ... testbox probe`."""
        return json.loads(self.ok(*arguments, **settings))

    def start(self, *arguments: str | os.PathLike[str], **settings: Any) -> subprocess.Popen[str]:
        """Start a command with pipes on its three descriptors, unless `settings` say otherwise."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command: Sequence[str | os.PathLike[str]] = [*program(), *arguments]
        return subprocess.Popen(command, text=True, env=self.environ, **{**pipes, **settings})
