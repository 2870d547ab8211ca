# SPDX-License-Identifier: Apache-2.0
"""How work on images tells of its progress, without knowing who watches."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Somebody who watches. Called from several threads; must not raise."""

    def start(self, key: str, label: str, total: int | None) -> None:
        """A piece of work called `key` begins or enters the phase `label`; `total` bytes or None."""

    def advance(self, key: str, count: int) -> None:
        """`count` more bytes of it are done."""

    def done(self, key: str, label: str) -> None:
        """It has ended, as `label` says."""


class Silent:
    """Nobody watches."""

    def start(self, key: str, label: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, key: str, count: int) -> None:
        """Say nothing."""

    def done(self, key: str, label: str) -> None:
        """Say nothing."""
