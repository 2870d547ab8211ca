# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one thing in the store, and what the parts of a check share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rootless.images import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.paths import Paths


@dataclass
class Fault:
    """One thing that is not as it should be.

    `kind` says what it is (blob, image, reference, layer, container, name, index, file ...), `subject`
    which one, `problem` in a few words what is wrong. `mend` makes it good or raises; None means that
    nothing can be done here, and `hint` is what a person can do. `failure` is why mending failed.
    """

    kind: str
    subject: str
    problem: str
    mend: Callable[[], object] | None = field(default=None, repr=False)
    hint: str = ""
    mended: bool = False
    failure: str = ""


@dataclass
class Inspection:
    """One run of a check and what its parts know already."""

    paths: Paths
    quick: bool = False
    repair: bool = False

    @cached_property
    def bad_blobs(self) -> set[str]:
        """Digests of blobs that were found damaged and not replaced."""
        return set()

    def records(self) -> list[dict[str, Any]]:
        """The image records that can be read, as they are now."""
        return records.list_images(self.paths)


def names(directory: str) -> list[str]:
    """The names in a directory, in order; none when it is not there."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
