# SPDX-License-Identifier: Apache-2.0
"""Platforms: spelling them one way, knowing the host's, choosing from an index.

Names are Go's (image specification, image-index.md), whatever uname(2) calls the machine.
"""

from __future__ import annotations

import os

from rootless.errors import Invalid, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "powerpc64le": "ppc64le",
    "mips64el": "mips64le",
    "mipsel": "mipsle",
    "loongarch64": "loong64",
}
_ARM_VARIANTS = {"armv5l": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v8"}
_ARM_VARIANTS |= {"armhf": "v7", "armel": "v6"}
# The variant that an absent one means, so that both spellings are equal.
_IMPLIED_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
# Variants of an architecture in order: a machine runs its own and all before it.
_VARIANTS = {
    "amd64": ("v1", "v2", "v3", "v4"),
    "arm": ("v5", "v6", "v7", "v8"),
}
_AMD64_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


class Platform:
    """An operating system, an architecture and, where it matters, a variant; normalised."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, system: str, architecture: str, variant: str = "") -> None:
        machine = architecture.lower()
        self.os = {"macos": "darwin"}.get(system.lower(), system.lower())
        self.architecture = (
            "arm" if machine in _ARM_VARIANTS else _ARCHITECTURES.get(machine, machine)
        )
        variant = variant.lower() or _ARM_VARIANTS.get(machine, "")
        if variant.isdecimal():
            variant = "v" + variant
        self.variant = "" if variant == _IMPLIED_VARIANT.get(self.architecture) else variant

    def __str__(self) -> str:
        parts = (self.os, self.architecture, self.variant)
        return "/".join(part for part in parts if part)

    def __repr__(self) -> str:
        return f"Platform({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def as_dict(self) -> dict[str, str]:
        """The object of an image record: variant only where it says something."""
        found = {"os": self.os, "architecture": self.architecture}
        if self.variant:
            found["variant"] = self.variant
        return found


def parse(text: str) -> Platform:
    """The platform of `linux/arm64/v8`, `linux/amd64`, or an architecture alone; raises Invalid."""
    parts = text.split("/")
    if len(parts) > 3 or not all(_is_word(part) for part in parts):
        raise Invalid(f"not a platform: {text!r}", hint="write it as linux/amd64 or linux/arm64/v8")
    if len(parts) == 1:
        return Platform("linux", parts[0])
    return Platform(*parts)


def host() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    return Platform("linux", machine, _amd64_level() if machine == "x86_64" else "")


def of(found: Mapping[str, Any]) -> Platform:
    """The platform that an index entry, or an image config, declares."""
    return Platform(
        str(found.get("os", "")), str(found.get("architecture", "")), str(found.get("variant", ""))
    )


def candidates(wanted: Platform) -> list[Platform]:
    """What `wanted` can run, best first: itself, then lower variants of its architecture."""
    order = _VARIANTS.get(wanted.architecture, ())
    variant = wanted.variant or _IMPLIED_VARIANT.get(wanted.architecture, "")
    lower = order[: order.index(variant)][::-1] if variant in order else ()
    found = [wanted, *(Platform(wanted.os, wanted.architecture, each) for each in lower)]
    if wanted.architecture == "amd64":
        found.append(Platform(wanted.os, "386"))
    return found


def choose(
    manifests: Sequence[Mapping[str, Any]], wanted: Platform | None = None
) -> Mapping[str, Any]:
    """The descriptor among an index's `manifests` to use on `wanted` (default: this machine).

    Raises NotFound listing the platforms that there are.
    """
    wanted = wanted or host()
    declared = [(of(each["platform"]), each) for each in manifests if each.get("platform")]
    for candidate in candidates(wanted):
        for platform, descriptor in declared:
            if platform == candidate:
                return descriptor
    if len(manifests) == 1 and not declared:
        return manifests[0]  # an index of one image need not say where it runs
    # Attestations stand in an index as platform unknown/unknown.
    names = sorted({str(each) for each, _ in declared if each.os != "unknown"})
    raise NotFound(
        f"no image for {wanted}: there is {', '.join(names) if names else 'no platform named'}",
        hint=f"choose another one: --platform {names[0]}" if names else "",
    )


def _is_word(text: str) -> bool:
    return text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()


def _amd64_level() -> str:
    """The micro-architecture level (x86-64 psABI) by /proc/cpuinfo's flags, such as v3."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            text = file.read(1 << 14).decode("ascii", "replace")
    except OSError:
        return ""
    _, _, rest = text.partition("\nflags")
    flags = set(rest.partition("\n")[0].split())
    level = ""
    for name, needed in _AMD64_LEVELS:
        if not needed <= flags:
            break
        level = name
    return level
