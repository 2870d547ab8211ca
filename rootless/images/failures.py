# SPDX-License-Identifier: Apache-2.0
"""What went wrong with a registry, as one sentence and a hint; makes errors, raises none itself.

Whatever a registry said is quoted without control characters and cut short.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import urllib3.exceptions as http

from rootless.errors import (
    Incomplete,
    Invalid,
    NotFound,
    RegistryError,
    RootlessError,
    Unauthorized,
)
from rootless.oci import document

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ERROR_BODY = 1 << 20
_MAX_QUOTE = 200


def clean(text: str, limit: int = _MAX_QUOTE) -> str:
    """Text from outside for a terminal: one line, printable characters only, at most `limit`."""
    shown = "".join(
        character if character.isprintable() else " " for character in text[: limit * 8]
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def quote(body: bytes) -> str:
    """The reason in the body of an error answer, or "" when it holds none for people.

    distribution-spec "Error Codes": {"errors": [{"code", "message", "detail"}]}.
    """
    try:
        told: Any = document.load_strict(body, "answer", max_size=MAX_ERROR_BODY)
    except Invalid:
        return ""
    errors = told.get("errors") if isinstance(told, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else told
    if not isinstance(first, dict):
        return ""
    for key in ("message", "details", "code", "error"):
        if isinstance(first.get(key), str) and first[key]:
            return clean(first[key])
    return ""


def is_passing(problem: Exception) -> bool:
    """True when the same request may succeed a moment later."""
    if isinstance(problem, (http.NewConnectionError, http.SSLError)):
        return False
    return isinstance(problem, (http.ProtocolError, http.TimeoutError, ConnectionError))


def is_not_tls(problem: BaseException) -> bool:
    """True when the other side answered a TLS greeting with something else."""
    words = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
    return any(word in str(problem).upper().replace(" ", "_") for word in words)


def unreachable(host: str, problem: Exception) -> RegistryError:
    """The error for a request that got no answer at all."""
    cause, hint = _cause(host, problem)
    return RegistryError(f"cannot reach registry {host}: {cause}", hint=hint)


def interrupted(
    what: str, host: str, problem: Exception, received: int, size: int, verb: str = "pull"
) -> Incomplete:
    """The error for a transfer that stopped after `received` of `size` bytes."""
    cause, _ = _cause(host, problem)
    way = f"upload {what} to" if verb == "push" else f"download {what} from"
    return Incomplete(
        f"cannot {way} {host}: {cause} after {received} of {size} bytes",
        hint="run the same command again; layers that are complete are kept",
    )


def refused(
    what: str,
    host: str,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    verb: str = "pull",
) -> RootlessError:
    """The error for an answer that is not a success.

    `what` is the object that was asked for, `verb` what was to be done with it.
    """
    said = quote(body)
    tail = f": {said}" if said else ""
    if status == 401:
        return denied(what, host, said, verb)
    kind, reason, hint = _REFUSALS.get(status, _UNKNOWN if status < 500 else _FAILED)
    if status == 404 and verb == "push":
        hint = "check the name; some registries want the repository to be made there first"
    if status == 429:
        wait = clean(headers.get("Retry-After", ""), 40)
        reason += f"; it asks to wait {wait} s" if wait.isdigit() else ""
    reason = reason.replace("STATUS", str(status))
    return kind(f"cannot {verb} {what}: {host} {reason}{tail}", hint=hint.replace("HOST", host))


_REFUSALS: dict[int, tuple[type[RootlessError], str, str]] = {
    403: (
        Unauthorized,
        "forbids it (403)",
        "ask for access to it, or log in as somebody who has: rootless login HOST",
    ),
    404: (NotFound, "does not have it (404)", "check the spelling of the name and of the tag"),
    405: (
        RegistryError,
        "does not do that (405)",
        "it may be a read-only mirror; name the registry that takes uploads",
    ),
    413: (
        RegistryError,
        "takes nothing so large (413)",
        "its operator, or the proxy before it, sets the limit",
    ),
    429: (
        RegistryError,
        "limits how often it is asked (429)",
        "wait and try again, or log in for a higher limit: rootless login HOST",
    ),
    507: (
        RegistryError,
        "has no room left (507)",
        "delete what is not needed there, or ask its operator for more",
    ),
}
_FAILED = (
    RegistryError, "failed (STATUS)", "the fault is on the registry's side; try again later"
)  # fmt: skip
_UNKNOWN = (RegistryError, "answered with status STATUS", "check that HOST is a registry")


def denied(what: str, host: str, said: str = "", verb: str = "pull") -> Unauthorized:
    """The error for missing or unwelcome credentials."""
    tail = f": {said}" if said else ""
    return Unauthorized(
        f"cannot {verb} {what}: {host} wants other credentials or does not have it (401){tail}",
        hint=f"check the name, or log in: rootless login {host}",
    )


# Kinds of failure in the order they are looked for, because the later ones are parents or causes of
# the earlier ones: (kinds, cause, hint).
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (http.NameResolutionError, socket.gaierror),
        "no such host",
        "check the name of the registry and the network",
    ),
    (
        (ConnectionRefusedError,),
        "connection refused",
        "check that the registry runs and that the port is right",
    ),
    (
        (http.ConnectTimeoutError,),
        "no answer to the connection",
        "check the network, the port and the firewall",
    ),
    ((http.ReadTimeoutError, TimeoutError), "nothing more came", "try again later"),
)


def _cause(host: str, problem: BaseException) -> tuple[str, str]:
    """The reason in words and what to do about it."""
    if _within(problem, http.SSLError, ssl.SSLError):
        return _tls_cause(host, problem)
    if isinstance(problem, http.ProxyError):
        said = clean(str(problem))
        return f"the proxy failed: {said}", "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    for kinds, cause, hint in _CAUSES:
        if _within(problem, *kinds):
            return cause, hint
    network = _within(problem, OSError)
    if isinstance(network, OSError) and network.strerror:
        return network.strerror.lower(), "check the network and try again"
    if isinstance(problem, (http.ProtocolError, ConnectionError)):
        return "the connection was closed", "try again"
    return clean(str(problem)) or type(problem).__name__, "try again"


def _tls_cause(host: str, problem: BaseException) -> tuple[str, str]:
    if is_not_tls(problem):
        return (
            "it does not speak TLS",
            f"if {host} is meant to be without encryption, add --tls-verify=false",
        )
    inner = _within(problem, ssl.SSLCertVerificationError)
    if inner is not None:
        reason = clean(getattr(inner, "verify_message", "") or str(inner))
        return (
            f"its certificate is not trusted: {reason}",
            f"put its CA certificate into ~/.config/containers/certs.d/{host}/ca.crt, "
            "or add --tls-verify=false",
        )
    return f"TLS failed: {clean(str(problem))}", "check the port, or add --tls-verify=false"


def _within(problem: BaseException, *kinds: type[BaseException]) -> BaseException | None:
    """The first exception of one of the kinds in the chain of causes and wrapped reasons."""
    seen: set[int] = set()
    todo: list[object] = [problem]
    while todo:
        current = todo.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, kinds):
            return current
        todo += [current.__cause__, current.__context__, *current.args]
    return None
