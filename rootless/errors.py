# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong, as one tree; imports nothing, printed in one place (`cli.main`).

RootlessError
├── UsageError            the command line, or a value in it, is not understood
├── NotFound              the named image, container, file or user does not exist
├── Conflict              the object exists already, or is in use
├── Invalid               a document, archive or value from outside breaks its specification
│   └── DigestMismatch    bytes are not the bytes their digest promises
├── RegistryError         a registry refused, failed or could not be reached
│   ├── Unauthorized      it wants other credentials, or none would do
│   └── Incomplete        it stopped in the middle of a transfer
├── NoSpace               the disk, the quota or the inode table is full
├── HostUnable            this machine lacks an ability; the hint says how to give it
├── LaunchFailed          a step between fork and exec failed
│   ├── CommandNotExecutable   the command exists and cannot be executed: exit code 126
│   └── CommandNotFound        the command does not exist in the root file system: exit code 127
└── Interrupted           Ctrl-C or SIGTERM: exit code 128 + signal
"""

from __future__ import annotations


class RootlessError(Exception):
    """A failure a person can act on.

    `message` is one lower-case sentence without a final period that names the object and the
    cause; `hint` is an instruction that can be typed or followed, or empty; `exit_code` is what
    the process ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RootlessError):
    """The command line is not understood."""

    exit_code = 125


class NotFound(RootlessError):
    """The named object does not exist."""


class Conflict(RootlessError):
    """The object exists already, or something still uses it."""


class Invalid(RootlessError):
    """A document, archive or value from outside breaks its specification."""


class DigestMismatch(Invalid):
    """Bytes are not the bytes their digest promises."""


class RegistryError(RootlessError):
    """A registry refused, failed or could not be reached."""


class Unauthorized(RegistryError):
    """The registry wants other credentials than it was given."""


class Incomplete(RegistryError):
    """The registry stopped in the middle of a transfer."""


class NoSpace(RootlessError):
    """The disk, the quota or the inode table is full."""


class HostUnable(RootlessError):
    """This machine lacks an ability that the request needs."""

    exit_code = 125


class LaunchFailed(RootlessError):
    """A step between fork and exec failed; nothing of the container is left running."""

    exit_code = 125


class CommandNotExecutable(LaunchFailed):
    """The command exists and cannot be executed."""

    exit_code = 126


class CommandNotFound(LaunchFailed):
    """The command does not exist in the root file system."""

    exit_code = 127


class Interrupted(RootlessError):
    """A signal asked us to stop; what was begun has been taken back."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal
