# SPDX-License-Identifier: Apache-2.0
"""Image references: the distribution grammar and docker's normalisation of what people type.

    reference := name [":" tag] ["@" digest]        name := [domain "/"] path

On the way to every container: no regular expressions. Grammar: the package documentation of
github.com/distribution/reference.
"""

from __future__ import annotations

from rootless.errors import Invalid
from rootless.oci import digest as digests

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_PATH = 255
MAX_TAG = 128

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALPHANUMERIC = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _ALPHANUMERIC | frozenset("_.-")
_IPV6 = frozenset("0123456789abcdefABCDEF:")
_HEX = frozenset("0123456789abcdef")


# The registry of names without one; settled once, before the first name is read.
_short_domain = DEFAULT_DOMAIN


def use_default_domain(domain: str) -> None:
    """Let names without a registry be of `domain` from now on; raises Invalid for what is no domain."""
    global _short_domain
    if not is_domain(domain):
        raise Invalid(f"not a registry: {domain!r}", hint="such as registry.example.org:5000")
    _short_domain = domain


class Reference:
    """A normalised reference: the domain is always there, and a tag or a digest, or both."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def repository(self) -> str:
        """`docker.io/library/debian`."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """`docker.io/library/debian:12`, or `docker.io/library/debian@sha256:...`.

        A digest says more than a tag, so a tag beside a digest is left out, as docker does.
        """
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}"

    @property
    def familiar_repository(self) -> str:
        """`debian`: what people type."""
        if self.domain != _short_domain:
            return self.repository
        if self.domain != DEFAULT_DOMAIN:
            return self.path
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """`debian:12`, or `debian@sha256:...`."""
        if self.digest:
            return f"{self.familiar_repository}@{self.digest}"
        return f"{self.familiar_repository}:{self.tag}"

    def __str__(self) -> str:
        return self.canonical

    def __repr__(self) -> str:
        return f"Reference({self.canonical!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, str, str]:
        return self.domain, self.path, self.tag, self.digest


def parse(text: str) -> Reference:
    """The reference a person means by `text`: `debian` is `docker.io/library/debian:latest`.

    Raises Invalid, saying which part breaks the grammar.
    """
    if not text:
        raise Invalid("invalid reference: it is empty", hint="name an image, such as debian:12")
    if len(text) == 64 and _HEX.issuperset(text):
        raise Invalid(f"invalid reference: {text}: 64 hex digits are an image id, not a name")
    name, _, digest = text.partition("@")
    if "@" in text:
        try:
            digest = digests.parse(digest)
        except Invalid as problem:
            raise _invalid(text, problem.message) from None
    name, tag = _split_tag(name)
    if tag is not None and not _is_tag(tag):
        raise _invalid(
            text, f"a tag has 1 to {MAX_TAG} letters, digits, '_', '.', '-', not {tag!r}"
        )
    domain, path = _split_domain(name)
    if not is_domain(domain):
        raise _invalid(text, f"{domain!r} is not a host name with an optional port")
    _check_path(text, path)
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def is_domain(text: str) -> bool:
    """True for a host name, an IPv4 address or an [IPv6 address], with an optional port."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not host or not _IPV6.issuperset(host):
            return False
    else:
        host, colon, port = text.partition(":")
        port = colon + port
        if not all(_is_label(label) for label in host.split(".")):
            return False
    if not port:
        return True
    digits = port[1:]
    return (
        port[0] == ":" and bool(digits) and _DIGITS.issuperset(digits) and int(digits[:6]) < 65536
    )


def _split_tag(name: str) -> tuple[str, str | None]:
    """The tag follows the last colon, unless a slash comes later: then the colon is a port's."""
    before, colon, after = name.rpartition(":")
    if not colon or "/" in after:
        return name, None
    return before, after


def _split_domain(name: str) -> tuple[str, str]:
    """Docker's rule for telling `host/path` from `user/path`."""
    first, slash, rest = name.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not slash or not looks_like_host:
        domain, path = _short_domain, name
    else:
        domain, path = DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first, rest
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _check_path(text: str, path: str) -> None:
    if path.lower() != path:
        raise _invalid(text, f"the repository name {path!r} must be lower-case")
    if len(path) > MAX_PATH:
        raise _invalid(text, f"the repository name has more than {MAX_PATH} characters")
    for component in path.removeprefix(_OFFICIAL).split("/"):
        if not _is_component(component):
            raise _invalid(text, f"{component!r} cannot be a part of a repository name")


def _is_component(text: str) -> bool:
    """Words of [a-z0-9] joined by one '.', one or two '_', or any number of '-'."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for character in text:
        if character in _LOWER:
            separator = ""
            continue
        separator += character
        if separator not in (".", "_", "__") and separator.strip("-"):
            return False
    return True


def _is_label(text: str) -> bool:
    """A part of a domain name: letters, digits and inner dashes."""
    return (
        bool(text)
        and text[0] != "-"
        and text[-1] != "-"
        and _ALPHANUMERIC.issuperset(text.replace("-", ""))
    )


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= MAX_TAG and text[0] not in ".-" and _TAG.issuperset(text)


def _invalid(text: str, reason: str) -> Invalid:
    shown = text if len(text) <= 300 else text[:300] + "..."
    return Invalid(f"invalid reference: {shown!r}: {reason}")
