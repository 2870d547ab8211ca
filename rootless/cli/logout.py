# SPDX-License-Identifier: Apache-2.0
"""`rootless logout`: credentials for a registry, forgotten."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.login import domain_of
from rootless.images import credentials, login

if TYPE_CHECKING:
    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless logout [SERVER]"
DESCRIPTION = "Log out of a registry (default docker.io): forget what `rootless login` kept."
ARGUMENTS = (0, 1)
COMPLETE = ""
OPTIONS: tuple[Option, ...] = ()


def run(_options: dict[str, Any], arguments: list[str], _paths: Paths) -> int:
    """Forget the credentials; nothing to forget is no failure."""
    domain = domain_of(arguments)
    if login.forget(domain):
        print(f"Removing login credentials for {domain}")
    else:
        print(f"Not logged in to {domain}")
    left, path = credentials.find(domain, "")
    if left is not None:
        print(f"{path} still has credentials for {domain}: podman logout {domain}", file=sys.stderr)
    return 0
