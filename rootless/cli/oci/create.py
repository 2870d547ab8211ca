# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci create`. Hot."""

from __future__ import annotations

from rootless.cli.oci.main import kept_descriptors, only
from rootless.cli.options import Option
from rootless.errors import UsageError
from rootless.runtime import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context

USAGE = "rootless-oci create [OPTIONS] CONTAINER"
DESCRIPTION = "Make a container of a bundle; its command waits for start"
OPTIONS = (
    Option("--bundle", "-b", value="dir", default=".", help="Directory with config.json"),
    Option("--console-socket", value="path", help="Socket that gets the master of the terminal"),
    Option("--no-new-keyring", help="Keep the caller's session keyring"),
    Option("--no-pivot", help="Refused: the container could get out"),
    Option("--pid-file", value="file", help="Write the pid of the container's process 1 here"),
    Option("--preserve-fds", value="number", default="0", help="Descriptors from 3 on to pass on"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Create a container."""
    container_id = only(arguments)
    create.create(context.root, container_id, parsed(options, context))
    return 0


def parsed(options: dict[str, Any], context: Context) -> create.Options:
    """The flags that create and run share."""
    if options["no_pivot"]:
        raise UsageError(
            "--no-pivot is not supported: without pivot_root(2) a container could leave its root",
            hint="on a ramdisk root, start from a directory on another file system",
        )
    made = create.Options(options["bundle"])
    made.console_socket = options["console_socket"] or ""
    made.pid_file = options["pid_file"] or ""
    made.preserve_fds = kept_descriptors(options["preserve_fds"])
    made.keep_keyring = options["no_new_keyring"]
    made.cgroups = context.cgroup_manager != "disabled"
    made.systemd_cgroup = context.cgroup_manager == "systemd"
    return made
