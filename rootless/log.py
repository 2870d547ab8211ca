# SPDX-License-Identifier: Apache-2.0
"""The log façade: structlog's call shape without its import cost.

`log.info("layer.applied", digest=d)` writes one line to standard error when the level asks for it.
A long-lived process calls `use_structlog()` once and the same calls go through structlog.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
_NAMES = {DEBUG: "debug", INFO: "info", WARNING: "warning", ERROR: "error"}

_level = DEBUG if os.environ.get("ROOTLESS_DEBUG") else WARNING
_backend: Callable[[int, str, dict[str, object]], None] | None = None


def set_level(level: int) -> None:
    """Write events of `level` and above; the default is WARNING, or DEBUG with ROOTLESS_DEBUG set."""
    global _level
    _level = level


def is_debug() -> bool:
    """True when debug events are written."""
    return _level <= DEBUG


def debug(event: str, **fields: object) -> None:
    """Record an event that only helps whoever looks for a fault."""
    _emit(DEBUG, event, fields)


def info(event: str, **fields: object) -> None:
    """Record a normal event."""
    _emit(INFO, event, fields)


def warning(event: str, **fields: object) -> None:
    """Record something the user should know although the command goes on."""
    _emit(WARNING, event, fields)


def error(event: str, **fields: object) -> None:
    """Record a failure that was survived."""
    _emit(ERROR, event, fields)


def _emit(level: int, event: str, fields: dict[str, object]) -> None:
    if level < _level:
        return
    if _backend is not None:
        _backend(level, event, fields)
        return
    told = " ".join(f"{key}={value!r}" for key, value in fields.items())
    line = f"{_NAMES[level]}: {event} {told}".rstrip() + "\n"
    # os.write and not sys.stderr: usable between fork and exec, where Python's buffers are shared.
    os.write(2, line.encode(errors="backslashreplace"))


def use_structlog() -> None:
    """Send events through structlog from now on, for processes that live long enough to pay for it."""
    global _backend
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logger = structlog.get_logger("rootless")

    def through_structlog(level: int, event: str, fields: dict[str, object]) -> None:
        getattr(logger, _NAMES[level])(event, **fields)

    _backend = through_structlog
