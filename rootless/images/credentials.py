# SPDX-License-Identifier: Apache-2.0
"""The credentials people have: docker's config.json and podman's auth.json, read.

containers-auth.json(5). What `login` writes is written by `images.login`; the file it writes to is
looked at first.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rootless import log
from rootless.errors import Invalid
from rootless.images import credential_helper
from rootless.oci import document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE = 1 << 20
DOCKER_HUB = "https://index.docker.io/v1/"  # what docker calls its own registry in these files
_DOCKER_HUB = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """A user name with a password, or an identity token in place of the password."""

    username: str
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")

    @property
    def basic(self) -> str:
        """The value of an Authorization header of the scheme Basic (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def lookup(
    domain: str, repository: str, environ: Mapping[str, str] = os.environ
) -> Credentials | None:
    """The credentials for one repository of a registry, or None.

    The most specific entry of the first file that has one wins. Raises Invalid for a file that is
    not JSON; a helper that fails is warned of and passed over.
    """
    return find(domain, repository, environ)[0]


def find(
    domain: str, repository: str, environ: Mapping[str, str] = os.environ
) -> tuple[Credentials | None, str]:
    """`lookup`, and the file that told."""
    for path in _files(environ):
        config = read(path)
        for key in _keys(domain, repository):
            found = _from_config(config, key, path)
            if found is not None:
                return found, path
    return None, ""


def _files(environ: Mapping[str, str]) -> Iterator[str]:
    home = environ.get("HOME", "")
    ours = own_file(environ)
    if ours:
        yield ours
    if environ.get("REGISTRY_AUTH_FILE"):
        return
    if environ.get("XDG_RUNTIME_DIR"):
        yield environ["XDG_RUNTIME_DIR"] + "/containers/auth.json"
    config = environ.get("XDG_CONFIG_HOME", "") or (home + "/.config" if home else "")
    if config:
        yield config + "/containers/auth.json"


def own_file(environ: Mapping[str, str] = os.environ) -> str:
    """The file that `login` writes to: $REGISTRY_AUTH_FILE, else docker's config.json; "" for none."""
    if environ.get("REGISTRY_AUTH_FILE"):
        return environ["REGISTRY_AUTH_FILE"]
    home = environ.get("HOME", "")
    docker = environ.get("DOCKER_CONFIG", "") or (home + "/.docker" if home else "")
    return docker + "/config.json" if docker else ""


def read(path: str) -> dict[str, Any]:
    """The document in a file of credentials, {} when there is none; raises Invalid."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_FILE + 1)
    except OSError:
        return {}
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("credentials.readable_by_others", file=path, fix=f"chmod 600 {path}")
    config = document.load_strict(text, path, max_size=MAX_FILE) if text.strip() else {}
    if not isinstance(config, dict):
        raise Invalid(f"cannot read {path}: not a JSON object")
    return config


def _keys(domain: str, repository: str) -> Iterator[str]:
    """What an entry may be called, the most specific first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield f"{domain}/{'/'.join(parts[:count])}"
    for name in (domain, *(_DOCKER_HUB if domain == "docker.io" else ())):
        yield name
        if "://" not in name:
            yield from (f"https://{name}", f"https://{name}/v1/", f"https://{name}/v2/")


def _from_config(config: dict[str, Any], key: str, path: str) -> Credentials | None:
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
        return _ask_helper(helpers[key], key)
    entries = config.get("auths")
    entry = entries.get(key) if isinstance(entries, dict) else None
    if not isinstance(entry, dict):
        return None
    found = _from_entry(entry, f"{path}: auths: {key}")
    if found is None and isinstance(config.get("credsStore"), str):
        return _ask_helper(config["credsStore"], key)  # docker leaves an empty entry behind
    return found


def _from_entry(entry: dict[str, Any], source: str) -> Credentials | None:
    token = entry.get("identitytoken", "")
    username, password = entry.get("username", ""), entry.get("password", "")
    encoded = entry.get("auth", "")
    if not all(isinstance(value, str) for value in (token, username, password, encoded)):
        raise Invalid(f"cannot read {source}: its values must be strings")
    if encoded:
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Invalid(
                f"cannot read {source}: auth is not base64", hint="log in again: rootless login"
            ) from None
        username, _, password = pair.partition(":")
        password = password.rstrip("\0")
    if not (username or token):
        return None
    return Credentials(username, password, token)


def _ask_helper(name: str, server: str) -> Credentials | None:
    found = credential_helper.get(name, server)
    if found is None:
        return None
    username, secret = found
    if username == credential_helper.TOKEN_USER:
        return Credentials("", identity_token=secret)
    return Credentials(username, secret)
