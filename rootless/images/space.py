# SPDX-License-Identifier: Apache-2.0
"""Room on the disk: asked for before the first byte, and named when it runs out."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless.errors import NoSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINT = "free some: rootless rmi IMAGE; or keep the store elsewhere: export ROOTLESS_ROOT=/path"


def require(directory: str, needed: int, what: str) -> None:
    """Raise NoSpace unless `needed` more bytes fit into the file system of `directory`.

    Quotas are not seen here; `reporting_full` names them when they are hit.
    """
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise NoSpace(
            f"cannot {what}: it needs {needed} bytes and {directory} has {free} free", hint=_HINT
        )


@contextmanager
def reporting_full(directory: str, what: str) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into NoSpace, naming what was being done and how much is free."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        found = os.statvfs(directory)
        raise NoSpace(
            f"cannot {what}: {directory}: {(problem.strerror or 'disk full').lower()}, "
            f"{found.f_bavail * found.f_frsize} bytes and {found.f_favail} inodes free",
            hint=_HINT,
        ) from problem
