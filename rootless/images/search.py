# SPDX-License-Identifier: Apache-2.0
"""Searching a registry for repositories: docker's search interface, or the catalog of a private one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from rootless.errors import NotFound, RegistryError, RootlessError
from rootless.images import failures
from rootless.images.registry import Registry
from rootless.oci import document, reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.images.transport import Response

MAX_ANSWER = 4 << 20
MOST = 100  # results, as many as docker's own registry gives at once
_SEARCH_HOST = "index.docker.io"


@dataclass(frozen=True)
class Found:
    """One repository, with what the registry says of it."""

    name: str
    description: str
    stars: int
    is_official: bool
    is_automated: bool


def search(
    text: str,
    limit: int,
    *,
    verify_tls: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> list[Found]:
    """The repositories that fit a term, which may begin with a registry: `HOST/term`.

    Raises RegistryError and its kinds.
    """
    domain, slash, term = text.partition("/")
    is_host = slash and ("." in domain or ":" in domain or domain == "localhost")
    if not is_host or not reference.is_domain(domain):
        domain, term = _SEARCH_HOST, text
    registry = Registry(domain, "", verify_tls=verify_tls, environ=environ, verb="search")
    try:
        return _by_search(registry, domain, term, limit) or (
            _by_catalog(registry, domain, term, limit) if is_host else []
        )
    finally:
        registry.close()


def _by_search(registry: Registry, domain: str, term: str, limit: int) -> list[Found]:
    """docker's interface: results that answer, or none where there is no such interface."""
    query = urlencode({"q": term, "n": limit})
    try:
        response = registry.ask("GET", f"/v1/search?{query}", domain, scope="")
    except NotFound:
        return []
    if response.status != 200:
        if domain == _SEARCH_HOST:
            raise registry.refused(response, domain)
        response.close()
        return []
    try:
        told = _document(response, domain)
    except RootlessError:
        if domain == _SEARCH_HOST:
            raise
        return []  # a web page that answers to everything
    results = told.get("results") if isinstance(told, dict) else None
    rows = [each for each in results or [] if isinstance(each, dict)]
    prefix = "" if domain == _SEARCH_HOST else domain + "/"
    return [_found(each, prefix) for each in rows][:limit]


def _found(told: dict[str, Any], prefix: str) -> Found:
    name, description = told.get("name"), told.get("description")
    stars = told.get("star_count")
    return Found(
        prefix + (failures.clean(name) if isinstance(name, str) else ""),
        failures.clean(description, 2000) if isinstance(description, str) else "",
        stars if isinstance(stars, int) else 0,
        told.get("is_official") is True,
        told.get("is_automated") is True,
    )


def _by_catalog(registry: Registry, domain: str, term: str, limit: int) -> list[Found]:
    """The names in a registry's catalog that contain the term."""
    names = registry.pages("/v2/_catalog", "repositories", domain, "registry:catalog:*")
    fitting = (name for name in names if term in name)
    return [
        Found(f"{domain}/{name}", "", 0, False, False)
        for name, _ in zip(fitting, range(limit), strict=False)
    ]


def _document(response: Response, domain: str) -> Any:
    body = response.read(MAX_ANSWER, f"the answer of {domain}")
    try:
        return document.load_strict(body, f"the answer of {domain}", max_size=MAX_ANSWER)
    except RootlessError as problem:
        raise RegistryError(
            problem.message, hint=f"check that {domain} is a registry that can be searched"
        ) from None
