# SPDX-License-Identifier: Apache-2.0
"""The user's and the site's settings: from YAML files when they change, from a cache in JSON otherwise.

Hot: without a file it is two calls of stat(2); with one, and a cache that fits, one small file is read.
What may be in the files is `configuration.schema`, for people docs/reference/configuration.md.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Key = list[list[object]]

_SITE = "/etc/rootless/config.yaml"
_CACHE = "/configuration.json"
DEFAULT_DOMAIN = "docker.io"


class Settings:
    """All settings, with their defaults. `values` is the document the files come to."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @property
    def default_domain(self) -> str:
        """The registry of names without one."""
        return str(self._section("registries").get("default-domain", DEFAULT_DOMAIN))

    @property
    def driver(self) -> str:
        """The storage driver to use, "" to choose one."""
        return str(self._section("storage").get("driver", ""))

    @property
    def proxies(self) -> dict[str, str]:
        """`http`, `https` and `no` as the environment variables of that name have them."""
        return dict(self._section("proxies"))

    def host(self, domain: str) -> dict[str, Any]:
        """What is said about one registry: mirrors, insecure, blocked, ca, client-cert, client-key."""
        hosts = self._section("registries").get("hosts", {})
        return dict(hosts.get(domain, {}))

    def limit(self, name: str, default: int) -> int:
        """A budget, such as `entries`."""
        return int(self._section("limits").get(name, default))

    def _section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.values.get(name, {})
        return found


_latest: tuple[Key, Settings] = ([], Settings({}))


def load(environ: Mapping[str, str] = os.environ, *, run: str = "") -> Settings:
    """The settings of the caller's file over the site's; cached below the runtime directory `run`.

    Raises Invalid, naming file and line, for a file that is not understood.
    """
    global _latest
    key = _key(environ)
    if key == _latest[0]:
        return _latest[1]
    values: dict[str, Any] = {}
    if key:
        cached = _read(run + _CACHE, key) if run else None
        if cached is None:
            from rootless.configuration import schema  # with a YAML parser: once for each change

            cached = schema.read([str(path) for path, *_ in key])
            if run:
                _write(run, key, cached)
        values = cached
    _latest = (key, Settings(values))
    return _latest[1]


def files(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Where settings are looked for; a later file wins."""
    site = environ.get("ROOTLESS_SITE_CONFIG", "") or _SITE
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME", "")
        base = home + "/.config" if home.startswith("/") else ""
    return [site, base + "/rootless/config.yaml"] if base else [site]


def _key(environ: Mapping[str, str]) -> Key:
    """Path, time and size of each file there is: another content is another key."""
    found: Key = []
    for path in files(environ):
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append([path, status.st_mtime_ns, status.st_size, status.st_ino])
    return found


def _read(path: str, key: Key) -> dict[str, Any] | None:
    try:
        status = os.lstat(path)
        if status.st_uid != os.geteuid() or status.st_mode & 0o177022 != 0o100000:
            return None
        found = document.load(path)
        values = found["values"] if found["key"] == key else None
    except (OSError, RootlessError, TypeError, KeyError):
        return None
    return values if isinstance(values, dict) else None


def _write(run: str, key: Key, values: dict[str, Any]) -> None:
    """Keep the answer; without a place for it we parse again."""
    temporary = f"{run}{_CACHE}.{os.getpid()}"
    try:
        os.makedirs(run, 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, document.dumps({"key": key, "values": values}))
        finally:
            os.close(fd)
        os.rename(temporary, run + _CACHE)
    except OSError:
        pass
