# SPDX-License-Identifier: Apache-2.0
"""`system check`: whether everything in the store is there, whole and wanted; and mending what is not.

Each module looks at one kind of thing and yields `Fault`s, lowest first: what a later one rests on
has been looked at, and with `repair` mended, before. Healthy objects are never written to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rootless import log
from rootless.engine.check import blobs, containers, images, layers, layout
from rootless.engine.check.fault import Fault, Inspection
from rootless.errors import RootlessError
from rootless.images import garbage

if TYPE_CHECKING:
    from rootless.paths import Paths

_PARTS: tuple[Callable[[Inspection], Iterator[Fault]], ...] = (
    layout.check,
    blobs.check,
    images.check_records,
    images.check_references,
    blobs.check_presence,
    layers.check,
    containers.check,
    containers.check_names,
    images.check_index,
)
# These collect what is not wanted, which nobody does while a check holds on to the content.
_LAST = (layout.check_unused, layout.check_leftovers)


def check(paths: Paths, *, repair: bool = False, quick: bool = False) -> list[Fault]:
    """Every fault of the store, in the order they were found; those with `mended` are gone.

    `quick` compares names and sizes and reads no content. `repair` mends what can be mended.
    Other commands may be at work meanwhile. Raises OSError when the store cannot be read at all.
    """
    if not os.path.isdir(paths.data):
        return []
    inspection = Inspection(paths, quick=quick, repair=repair)
    found: list[Fault] = []
    if repair:
        layout.restore(inspection, found)
    if not os.path.isdir(paths.locks) or not os.path.isdir(paths.tmp):
        found += layout.check(inspection)
        return found
    with garbage.content_in_use(paths):
        for part in _PARTS:
            for fault in part(inspection):
                _deal_with(fault, repair=repair)
                found.append(fault)
    for part in _LAST:
        for fault in part(inspection):
            _deal_with(fault, repair=repair)
            found.append(fault)
    return found


def _deal_with(fault: Fault, *, repair: bool) -> None:
    log.info("check.fault", kind=fault.kind, subject=fault.subject, problem=fault.problem)
    if not repair or fault.mend is None:
        return
    try:
        fault.mend()
        fault.mended = True
    except (RootlessError, OSError) as problem:
        fault.failure = str(problem)
