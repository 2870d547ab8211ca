# SPDX-License-Identifier: Apache-2.0
"""Walls around the command that are not mounts, as steps. Runs between fork and exec; imports nothing later."""

from __future__ import annotations

import errno

from rootless.linux import keyctl, seccomp
from rootless.runtime import seccomp_cache
from rootless.runtime.rootfs import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.recipe import Recipe


def apply(recipe: Recipe, process: dict[str, Any], config: dict[str, Any]) -> None:
    """Put the filter of linux.seccomp, if there is one, into the recipe."""
    spelled = (config.get("linux") or {}).get("seccomp")
    if spelled:
        made = seccomp_cache.of_document(spelled)
        step = SyscallFilter("of the configuration", made, made.flags)
        add_filter(recipe, step, last=bool(process.get("noNewPrivileges")))


def add_filter(recipe: Recipe, step: Step, *, last: bool) -> None:
    """Put a filter where it has to be loaded; `last` with no_new_privs.

    With no_new_privs nothing has to be allowed after it but the exec; without, loading takes a
    privilege the command may not keep, so it comes before the identity (seccomp(2)).
    """
    if last:
        recipe.final_steps = [*recipe.final_steps, step]
    else:
        recipe.privileged_steps = [*recipe.privileged_steps, step]


class SessionKeyring(Step):
    """A session keyring of its own: the caller's keys stay the caller's; see session-keyring(7)."""

    __slots__ = ("container_id",)
    name = "keyring"

    def __init__(self, container_id: str) -> None:
        super().__init__("keys of the caller stay out of reach")
        self.container_id = container_id

    def describe(self) -> str:
        return f"join session keyring _ses.{self.container_id}"

    def execute(self, stage: Stage) -> None:
        try:
            keyctl.join_session_keyring(f"_ses.{self.container_id}")
        except OSError as problem:
            # Not built in, or the user's quota of keys (200) is used up by other containers.
            if problem.errno not in (errno.ENOSYS, errno.EDQUOT):
                raise


class SyscallFilter(Step):
    """A compiled seccomp program; see seccomp(2)."""

    __slots__ = ("flags", "program", "profile")
    name = "seccomp"

    def __init__(self, profile: str, program: bytes, flags: int = 0) -> None:
        super().__init__("system calls a container has no use for are refused")
        self.profile = profile
        self.program = program
        self.flags = flags

    def describe(self) -> str:
        return f"profile {self.profile}, {len(self.program) // 8} instructions"

    def execute(self, stage: Stage) -> None:
        seccomp.load(self.program, self.flags)
