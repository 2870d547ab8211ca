# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci exec`. Hot."""

from __future__ import annotations

import os

from rootless.cli.oci.main import count, kept_descriptors
from rootless.cli.options import Option
from rootless.errors import UsageError
from rootless.runtime import join
from rootless.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.oci.main import Context
    from rootless.runtime.recipe import Recipe

USAGE = "rootless-oci exec [OPTIONS] CONTAINER COMMAND [ARG...]"
DESCRIPTION = "Run one more process in a running container"
COMMAND_FOLLOWS = True
OPTIONS = (
    Option("--additional-gids", "-g", value="gid", many=True, help="Additional group"),
    Option("--apparmor", value="profile", help="AppArmor profile"),
    Option("--cap", "-c", value="name", many=True, help="Add a capability"),
    Option("--cgroup", value="path", help="Refused: the container's own cgroup is used"),
    Option("--console-socket", value="path", help="Socket that gets the master of the terminal"),
    Option("--cwd", value="dir", help="Working directory"),
    Option("--detach", "-d", help="Return as soon as the command runs"),
    Option("--env", "-e", value="key=value", many=True, help="Set an environment variable"),
    Option("--ignore-paused", help="Allow it in a paused container"),
    Option("--no-new-privs", help="No exec grants privileges"),
    Option("--pid-file", value="file", help="Write the pid of the process here"),
    Option("--preserve-fds", value="number", default="0", help="Descriptors from 3 on to pass on"),
    Option("--process", "-p", value="file", help="A process of the specification, as JSON"),
    Option("--process-label", value="label", help="SELinux label"),
    Option("--tty", "-t", help="Give it a terminal"),
    Option("--user", "-u", value="uid[:gid]", help="Who it runs as"),
)


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Run the process; its exit code is ours, unless it is detached."""
    if not arguments:
        raise UsageError("exec needs a container id")
    if options["cgroup"]:
        raise UsageError("--cgroup is not supported: the container's own cgroup is used")
    container = Container(context.root, arguments[0])
    container.state()  # an unknown one is told before anything else
    spelled = _process(options, arguments[1:], container)
    kept = kept_descriptors(options["preserve_fds"])
    recipe, pidfd = join.recipe(container, spelled, ignore_paused=options["ignore_paused"])
    recipe.kept = kept
    recipe.dies_with_parent = False
    recipe.forwards_signals = not options["detach"]
    if options["tty"] or spelled.get("terminal"):
        return _on_terminal(recipe, pidfd, spelled, options)
    process = join.start(recipe, pidfd)
    _write_pid(options["pid_file"], process.pid)
    if options["detach"]:
        return 0
    return process.wait()


def _process(options: dict[str, Any], command: list[str], container: Container) -> dict[str, Any]:
    """What to run: a file's `process`, or the container's own with the flags put in."""
    if options["process"]:
        from rootless.oci import runtime as specification

        return specification.load_process(options["process"])
    config = container.config()
    own = config["process"]
    spelled = join.merged(config, args=command, cwd=options["cwd"])
    spelled["env"] = [*own.get("env", ()), *options["env"]]
    user = dict(own.get("user") or {})
    if options["user"]:
        uid, _, gid = options["user"].partition(":")
        if not uid.isdecimal() or (gid and not gid.isdecimal()):
            raise UsageError(f"--user: not UID[:GID]: {options['user']}")
        user["uid"] = int(uid)
        user["gid"] = int(gid) if gid else user.get("gid", 0)
    user["additionalGids"] = [
        *(user.get("additionalGids") or ()),
        *(count(gid, "--additional-gids") for gid in options["additional_gids"]),
    ]
    spelled["user"] = user
    if options["no_new_privs"]:
        spelled["noNewPrivileges"] = True
    if options["cap"]:
        # Never the inheritable set (CVE-2022-27650).
        sets = dict(own.get("capabilities") or {})
        for name in ("bounding", "effective", "permitted"):
            sets[name] = sorted({*(sets.get(name) or ()), *options["cap"]})
        spelled["capabilities"] = sets
    if options["apparmor"] is not None:
        spelled["apparmorProfile"] = options["apparmor"]
    if options["process_label"] is not None:
        spelled["selinuxLabel"] = options["process_label"]
    return spelled


def _on_terminal(
    recipe: Recipe, pidfd: int, spelled: dict[str, Any], options: dict[str, Any]
) -> int:
    """A pty of the container's own, served by the console socket's listener or by our terminal."""
    from rootless.runtime import foreground
    from rootless.runtime.console import Terminal, window_size

    if not options["console_socket"]:
        if options["detach"]:
            raise UsageError("--detach with a terminal needs --console-socket")
        return foreground.run(
            recipe, True, True, lambda made: join.start(made, pidfd), is_console=False
        )
    step = Terminal(window_size(spelled), "asked for", is_console=False)
    step.connect_to(options["console_socket"])
    recipe.insert_before("pivot", step)
    recipe.owned_streams = (0,)
    process = join.start(recipe, pidfd)
    step.close()
    _write_pid(options["pid_file"], process.pid)
    if options["detach"]:
        return 0
    return process.wait()


def _write_pid(path: str | None, pid: int) -> None:
    if path:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(fd, str(pid).encode())
        os.close(fd)
