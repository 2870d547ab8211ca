# SPDX-License-Identifier: Apache-2.0
"""Logging in to a registry and out of it: credentials are tried first and then kept where docker keeps them.

Writes one file, docker's config.json (or $REGISTRY_AUTH_FILE), whole, with mode 0600 and with every
key in it that is not ours; or gives the secret to the credential helper which that file names.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootless.errors import HostUnable, Invalid
from rootless.images import credential_helper, credentials
from rootless.images.credentials import Credentials
from rootless.images.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

_INDENT = "\t"  # as docker writes it


@dataclass(frozen=True)
class Kept:
    """Where a login was kept: a file, or a credential helper by its name, "" for none."""

    path: str
    helper: str


def server_key(domain: str) -> str:
    """What a registry is called in the file."""
    return credentials.DOCKER_HUB if domain == "docker.io" else domain


def verify(
    domain: str,
    login: Credentials,
    *,
    verify_tls: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Credentials:
    """Try credentials at a registry; what to keep, which is a token where it gives one.

    Raises Unauthorized when they are refused, RegistryError when it cannot be reached.
    """
    registry = Registry(
        domain, "", verify_tls=verify_tls, environ=environ, verb="log in to", login=login
    )
    try:
        response = registry.ask("GET", "/v2/", domain, scope="")
        if response.status != 200:
            raise registry.refused(response, domain)
        response.close()
        token = registry.identity_token or login.identity_token
    finally:
        registry.close()
    if not token:
        return login
    return Credentials(login.username, identity_token=token)


def keep(domain: str, login: Credentials, environ: Mapping[str, str] = os.environ) -> Kept:
    """Save credentials for a registry; raises Invalid for a file that is none of docker's."""
    path, key = _path(environ), server_key(domain)
    config = credentials.read(path)
    helper = _helper(config, key)
    if helper:
        user = credential_helper.TOKEN_USER if login.identity_token else login.username
        credential_helper.store(helper, key, user, login.identity_token or login.password)
        entry: dict[str, str] = {}  # as docker: the entry says whom to ask the helper about
    else:
        pair = f"{login.username}:{login.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode("ascii")}
        if login.identity_token:
            entry["identitytoken"] = login.identity_token
    entries = config.setdefault("auths", {})
    if not isinstance(entries, dict):
        raise Invalid(f"cannot write {path}: auths is not an object")
    entries[key] = entry
    _write(path, config)
    return Kept(path, helper)


def forget(domain: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Delete the credentials for a registry that `keep` would write; False when there were none."""
    path, key = _path(environ), server_key(domain)
    config = credentials.read(path)
    helper = _helper(config, key)
    known = helper and credential_helper.get(helper, key) is not None
    if known:
        credential_helper.erase(helper, key)
    entries = config.get("auths")
    if isinstance(entries, dict):
        mine = [each for each in (key, f"https://{key}", f"http://{key}") if each in entries]
        for each in mine:
            del entries[each]
        if mine:
            _write(path, config)
        known = known or bool(mine)
    return bool(known)


def _path(environ: Mapping[str, str]) -> str:
    path = credentials.own_file(environ)
    if not path:
        raise HostUnable(
            "cannot tell where credentials are kept: HOME is not set",
            hint="set HOME, or name a directory: export DOCKER_CONFIG=/path",
        )
    return path


def _helper(config: dict[str, Any], key: str) -> str:
    """The credential helper that the file names for a registry, or ""."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
        return str(helpers[key])
    store = config.get("credsStore")
    return store if isinstance(store, str) else ""


def _write(path: str, config: dict[str, Any]) -> None:
    """Replace the file by rename; one that is a symbolic link is replaced where it leads."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    os.makedirs(directory, 0o700, exist_ok=True)
    data = json.dumps(config, indent=_INDENT, ensure_ascii=False).encode() + b"\n"
    temporary = f"{path}.{os.urandom(6).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
