# SPDX-License-Identifier: Apache-2.0
"""The programs that keep secrets for docker and podman: docker-credential-NAME get, store and erase.

The protocol is that of github.com/docker/docker-credential-helpers: a server or a JSON object on
standard input, an answer on standard output.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.errors import HostUnable, RootlessError
from rootless.images import failures
from rootless.oci import document

if TYPE_CHECKING:
    Answer = dict[str, Any]

MAX_ANSWER = 1 << 20
TOKEN_USER = "<token>"  # the user name that says that the secret is an identity token
_SECONDS = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def get(name: str, server: str) -> tuple[str, str] | None:
    """(user name, secret) for a server, or None; a helper that fails is warned of and passed over."""
    program = _find(name)
    if program is None:
        log.warning("credentials.helper_missing", program=f"docker-credential-{name}")
        return None
    try:
        code, said = _run(program, "get", server.encode())
    except OSError as problem:
        log.warning("credentials.helper_failed", program=program, reason=str(problem))
        return None
    if code:
        reason = failures.clean(said.decode(errors="replace"))
        if "not found" not in reason:
            log.warning("credentials.helper_failed", program=program, reason=reason)
        return None
    told = document.load_strict(said, f"the output of {program}", max_size=MAX_ANSWER)
    username, secret = told.get("Username", ""), told.get("Secret", "")
    return (username, secret) if username else None


def store(name: str, server: str, username: str, secret: str) -> None:
    """Give a secret to the helper; raises RootlessError when it does not take it."""
    told = {"ServerURL": server, "Username": username, "Secret": secret}
    _do(name, "store", document.dumps(told))


def erase(name: str, server: str) -> None:
    """Let the helper forget a server; one that it does not know is fine."""
    _do(name, "erase", server.encode(), fine="not found")


def _do(name: str, verb: str, data: bytes, fine: str = "\0") -> None:
    program = _find(name)
    if program is None:
        raise HostUnable(
            f"cannot {verb} credentials: there is no program docker-credential-{name}",
            hint="install it, or take credsStore and credHelpers out of docker's config.json",
        )
    code, said = _run(program, verb, data)
    reason = failures.clean(said.decode(errors="replace"))
    if code and fine not in reason:
        raise RootlessError(f"cannot {verb} credentials: {program}: {reason or f'exit {code}'}")


def _find(name: str) -> str | None:
    import shutil

    return shutil.which(f"docker-credential-{name}") if _NAME.match(name) else None


def _run(program: str, verb: str, data: bytes) -> tuple[int, bytes]:
    """Exit code and output; raises OSError (ETIMEDOUT for one that does not end)."""
    import subprocess  # few people have helpers, and everybody who pulls passes here

    try:
        done = subprocess.run(
            [program, verb], input=data, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(errno.ETIMEDOUT, "it does not end", program) from None
    return done.returncode, done.stdout
