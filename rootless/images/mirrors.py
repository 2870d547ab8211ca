# SPDX-License-Identifier: Apache-2.0
"""Where an image may be had: the mirrors of its registry, as configured, then the registry itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless import configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.oci.reference import Reference


def sources(wanted: Reference, environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """(domain, repository) of each place to ask, in order; the image's own registry comes last.

    A mirror is written `host` or `host/prefix`; the prefix goes before the repository.
    """
    found = []
    for mirror in configuration.load(environ).host(wanted.domain).get("mirrors", ()):
        domain, _, prefix = mirror.partition("/")
        prefix = prefix.strip("/")
        found.append((domain, f"{prefix}/{wanted.path}" if prefix else wanted.path))
    return [*found, (wanted.domain, wanted.path)]
