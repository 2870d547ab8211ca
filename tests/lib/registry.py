# SPDX-License-Identifier: Apache-2.0
"""The real `docker-registry` on the loopback interface, and images for it made by hand and by skopeo."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lib.abilities import find_program

_CONFIG = """\
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {root}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
"""
_AUTH = "auth:\n  htpasswd:\n    realm: test\n    path: {path}\n"
_TLS = "  tls:\n    certificate: {certificate}\n    key: {key}\n"
USER, PASSWORD = "user", "secret"
_HASH = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"  # bcrypt of PASSWORD
_START_SECONDS = 20.0


@contextmanager
def serving(
    directory: Path, *, with_login: bool = False, tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """Run a registry with its files below `directory`; gives its name, 127.0.0.1:PORT.

    `with_login` lets USER with PASSWORD in and nobody else; `tls` is a certificate and its key.
    """
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    config = directory / "registry.yml"
    text = _CONFIG.format(root=directory / "registry", port=port)
    if tls is not None:
        text += _TLS.format(certificate=tls[0], key=tls[1])
    if with_login:
        users = directory / "htpasswd"
        users.write_text(f"{USER}:{_HASH}\n")
        text += _AUTH.format(path=users)
    config.write_text(text)
    program = find_program("docker-registry")
    assert program is not None
    with (directory / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        _wait_for(port, server)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "the registry ended"
            assert time.monotonic() < deadline, "the registry does not listen"
            time.sleep(0.01)
        else:
            return


def copy(source: str, target: str, *flags: str) -> None:
    """`skopeo copy` without TLS and without asking for signatures."""
    subprocess.run(
        [
            "skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false",
            "--dest-tls-verify=false", *flags, source, target,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
