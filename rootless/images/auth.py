# SPDX-License-Identifier: Apache-2.0
"""Proving who we are to a registry: challenges, tokens, and to whom credentials may go.

RFC 9110 §11.6 for the headers, distribution's token authentication for the rest. Opens no
connection but to the token server a registry names, and only when that one may be trusted.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import urllib3.exceptions

from rootless.errors import Invalid, RegistryError, Unauthorized
from rootless.images import failures
from rootless.images.transport import origin
from rootless.oci import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.images.credentials import Credentials
    from rootless.images.transport import Response, Transport

MAX_TOKEN = 1 << 20
_CLIENT = "rootless"
_MAX_HEADER = 1 << 16
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|\Z)(?!\s*=)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

# Registries whose token server is known to stand elsewhere.
_KNOWN_REALMS = {"registry-1.docker.io": "auth.docker.io"}


@dataclass(frozen=True)
class Challenge:
    """One scheme of a WWW-Authenticate header; scheme and parameter names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges in the values of WWW-Authenticate headers; what cannot be read is left out."""
    challenges: list[Challenge] = []
    for header in headers:
        text, at = header[:_MAX_HEADER], 0
        while scheme := _SCHEME.match(text, at):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, at):
                at = parameter.end()
                name, quoted, plain = parameter.groups()
                value = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
                parameters.setdefault(name.lower(), value)
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def check_realm(realm: str, registry: str) -> None:
    """Raise RegistryError when a registry at URL `registry` may not name the token server `realm`.

    It must be https, or http when the registry itself is only http.
    """
    scheme = origin(realm)[0]
    if scheme == "http" and urlsplit(registry).scheme == "https":
        raise RegistryError(
            f"cannot log in to {urlsplit(registry).netloc}: its token server "
            f"{failures.clean(urlsplit(realm).netloc)} is not https",
            hint="the registry is set up wrongly; tell its operator",
        )


def may_receive_credentials(realm: str, registry: str) -> bool:
    """True when a token server stands near enough to its registry to be shown its credentials.

    The same host, docker.io's own pair, a parent domain, or a sister below a common domain
    (registry.gitlab.com and gitlab.com, registry.uni.example and gitlab.uni.example). Names only:
    two addresses are never relatives.
    """
    theirs, ours = origin(realm)[1], origin(registry)[1]
    if theirs == ours or _KNOWN_REALMS.get(ours) == theirs:
        return True
    if _is_address(theirs) or _is_address(ours):
        return False
    parent = ours.partition(".")[2]
    return "." in parent and (theirs == parent or theirs.endswith("." + parent))


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


class Authorizer:
    """The Authorization headers for one registry; shared by the threads of a transfer."""

    def __init__(
        self,
        transport: Transport,
        registry: str,
        credentials: Callable[[], Credentials | None],
        *,
        verb: str = "pull",
        offline: bool = False,
    ) -> None:
        """`registry` is the URL requests go to; `credentials` is asked at most once, when needed.

        `verb` is what errors say cannot be done. With `offline` a token server is asked for a
        token to keep, which `identity_token` then is.
        """
        self._verb = verb
        self._offline = offline
        self.identity_token = ""
        self._transport = transport
        self._registry = registry
        self._find_credentials = credentials
        self._credentials: Credentials | None = None
        self._asked = False
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}

    def header(self, scope: str) -> str:
        """The Authorization header for a scope as far as it is known already, or ""."""
        with self._lock:
            return self._headers.get(scope, "")

    def answer(self, response: Response, scope: str, rejected: str, what: str) -> None:
        """Learn the header for `scope` from a 401 that met the header `rejected`.

        Raises Unauthorized when there is nothing left to offer.
        """
        challenges = parse_challenges(response.headers.getlist("WWW-Authenticate"))
        body = response.error_body()
        with self._lock:
            if self._headers.get(scope, "") != rejected:
                return  # another thread has been here
            self._headers[scope] = self._new_header(challenges, scope, rejected, what, body)

    def _new_header(
        self, challenges: list[Challenge], scope: str, rejected: str, what: str, body: bytes
    ) -> str:
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if "bearer" in by_scheme:
            return "Bearer " + self._fetch_token(by_scheme["bearer"].parameters, scope, what)
        credentials = self._known()
        if "basic" in by_scheme and credentials is not None and not rejected:
            return credentials.basic
        raise failures.denied(what, self._transport.host, failures.quote(body), self._verb)

    def _known(self) -> Credentials | None:
        if not self._asked:
            self._credentials = self._find_credentials()
            self._asked = True
        return self._credentials

    def _fetch_token(self, parameters: dict[str, str], scope: str, what: str) -> str:
        realm = parameters.get("realm", "")
        check_realm(realm, self._registry)
        near = may_receive_credentials(realm, self._registry)
        credentials = self._known() if near else None
        query: dict[str, str | list[str]] = {"scope": scope.split()} if scope else {}
        if self._offline:
            query |= {"offline_token": "true", "client_id": _CLIENT}
        if parameters.get("service"):
            query["service"] = parameters["service"]
        host = urlsplit(realm).netloc
        try:
            response = self._ask(realm, query, credentials)
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise failures.unreachable(failures.clean(host), problem) from problem
        if response.status != 200:
            body = response.error_body()
            if response.status in (400, 401, 403):
                said = failures.quote(body)
                raise _refusal(what, self._transport.host, host, near, said, self._verb)
            raise failures.refused(
                f"{what} (token)", host, response.status, body, response.headers, self._verb
            )
        token, kept = _token(response.read(MAX_TOKEN, f"the token of {host}"), host)
        self.identity_token = kept or self.identity_token
        return token

    def _ask(
        self, realm: str, query: dict[str, str | list[str]], credentials: Credentials | None
    ) -> Response:
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": credentials.identity_token,
                **{k: v if isinstance(v, str) else " ".join(v) for k, v in query.items()},
            }
            return self._transport.open("POST", realm, headers={}, form=form)
        authorization = credentials.basic if credentials else ""
        url = _with_query(realm, query)
        return self._transport.open("GET", url, headers={}, authorization=authorization)


def _with_query(url: str, query: dict[str, str | list[str]]) -> str:
    parts = urlsplit(url)
    joined = "&".join(filter(None, (parts.query, urlencode(query, doseq=True))))
    return urlunsplit(parts._replace(query=joined, fragment=""))


def _refusal(
    what: str, host: str, realm_host: str, near: bool, said: str, verb: str
) -> Unauthorized:
    if near:
        return failures.denied(what, host, said, verb)
    shown = failures.clean(realm_host)
    return Unauthorized(
        f"cannot {verb} {what}: {host} sends its users to {shown}, which was not shown credentials",
        hint=f"{shown} and {host} look unrelated; ask the operator whether that is meant",
    )


def _token(body: bytes, host: str) -> tuple[str, str]:
    """The token in a token server's answer, and the one to keep if there is one.

    The first is "token", or "access_token" as OAuth 2.0 has it; the other is "refresh_token".
    """
    try:
        told: Any = document.load_strict(body, f"the token of {host}", max_size=MAX_TOKEN)
    except Invalid as problem:
        raise RegistryError(problem.message, hint="the token server is set up wrongly") from None
    token = (told.get("token") or told.get("access_token")) if isinstance(told, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(
            f"cannot read the token of {host}: there is none in the answer",
            hint="the token server is set up wrongly; tell its operator",
        )
    kept = told.get("refresh_token")
    return token, kept if isinstance(kept, str) else ""
