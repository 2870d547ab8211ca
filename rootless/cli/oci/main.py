# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci`: the OCI runtime command line, with the verbs and flags of runc and crun. Hot.

A verb is a module here with `USAGE`, `DESCRIPTION`, `OPTIONS` and `run(options, arguments, context)
-> int`. Options are accepted after the container's id too, as Slurm writes them; where a command of
the container follows (`exec`), COMMAND_FOLLOWS says so; `ps` hands on all that follows the id.
"""

from __future__ import annotations

import os
import sys

from rootless import log
from rootless.cli.options import Option, parse
from rootless.errors import RootlessError, UsageError
from rootless.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

GLOBAL = (
    Option("--cgroup-manager", value="manager", default="cgroupfs", choices=("cgroupfs", "systemd", "disabled"), help="How the container's cgroup is made"),
    Option("--criu", value="path", help="Taken for compatibility; checkpoints are not supported"),
    Option("--debug", help="Log what happens"),
    Option("--help", "-h", help="Print usage"),
    Option("--log", value="file", help="Write errors to this file too"),
    Option("--log-format", value="format", default="text", choices=("text", "json"), help="Form of the log"),
    Option("--log-level", value="level", default="", help="debug, info, warning or error"),
    Option("--root", value="dir", help="Directory of the containers' states"),
    Option("--rootless", value="mode", default="auto", choices=("true", "false", "auto"), help="Taken for compatibility; the configuration decides"),
    Option("--systemd-cgroup", help="cgroupsPath is slice:prefix:name"),
    Option("--version", "-v", help="Print the version and quit"),
)  # fmt: skip

# verb: (module below rootless.cli.oci, summary)
VERBS = {
    "create": ("create", "Make a container of a bundle; its command waits for start"),
    "delete": ("delete", "Forget a stopped container"),
    "events": ("events", "Print what a container uses, as JSON"),
    "exec": ("exec", "Run one more process in a running container"),
    "features": ("features", "Print what this runtime supports, as JSON"),
    "kill": ("kill", "Send a signal to a container"),
    "list": ("list", "List containers"),
    "pause": ("pause", "Freeze all processes of a container"),
    "ps": ("ps", "List the processes of a container"),
    "resume": ("resume", "Undo pause"),
    "run": ("run", "Make a container of a bundle and run it"),
    "spec": ("spec", "Write an example configuration"),
    "start": ("start", "Start the command of a created container"),
    "state": ("state", "Print the state of a container, as JSON"),
    "update": ("update", "Change the limits of a container"),
}


class Context:
    """The global options: where states are, and how cgroups are made."""

    __slots__ = ("cgroup_manager", "log", "log_format", "root")

    def __init__(self, settings: dict[str, Any]) -> None:
        self.root = settings["root"] or _default_root()
        self.log = settings["log"] or ""
        self.log_format = settings["log_format"]
        systemd = settings["systemd_cgroup"]
        self.cgroup_manager = "systemd" if systemd else settings["cgroup_manager"]


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    settings: dict[str, Any] = {}
    try:
        settings, words = parse(GLOBAL, argv, interspersed=False)
        code = _dispatch(settings, words)
        sys.stdout.flush()
    except BaseException as problem:
        return _report(problem, settings)
    return code


def _dispatch(settings: dict[str, Any], words: list[str]) -> int:
    if settings["debug"] or settings["log_level"] in ("debug", "trace"):
        log.set_level(log.DEBUG)
    if settings["version"]:
        return _print_version()
    if not words or settings["help"] or words[0] == "help":
        return _print_help()
    if words[0] not in VERBS:
        raise UsageError(f"no such command: {words[0]}", hint="rootless-oci --help")
    verb = load_verb(words[0])
    options, arguments = _parse_verb(verb, words[1:])
    if options.pop("help"):
        from rootless.cli.help import print_command

        return print_command(words[0], verb)
    context = Context(settings)
    _make_root(context.root)
    code: int = verb.run(options, arguments, context)
    return code


def load_verb(name: str) -> ModuleType:
    """The module of a verb in VERBS."""
    module = "rootless.cli.oci." + VERBS[name][0]
    __import__(module)
    return sys.modules[module]


def _parse_verb(verb: ModuleType, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    known = (*verb.OPTIONS, Option("--help", "-h", help="Print usage"))
    if not getattr(verb, "COMMAND_FOLLOWS", False):
        return parse(known, words)
    values, rest = parse(known, words, interspersed=False)
    if not getattr(verb, "OPTIONS_AFTER_ID", True):
        return values, rest
    later, command = parse(known, rest[1:], interspersed=False)
    for option in known:
        given = later[option.dest]
        if option.many:
            values[option.dest] += given
        elif given != option.initial:
            values[option.dest] = given
    return values, [*rest[:1], *command]


def _default_root() -> str:
    from rootless.paths import runtime_directory

    return runtime_directory() + "/oci"


def _make_root(root: str) -> None:
    from rootless.runtime import state

    if not os.path.isdir(root):
        os.makedirs(os.path.dirname(root), 0o700, exist_ok=True)
        state.ensure_runtime_directory(root)


def _print_version() -> int:
    from rootless import __version__
    from rootless.runtime.state import OCI_VERSION

    print(f"rootless-oci version {__version__}\nspec: {OCI_VERSION}")
    return 0


def _print_help() -> int:
    print("Usage:  rootless-oci [OPTIONS] COMMAND [ARG...]\n\nCommands:")
    for name, (_, summary) in VERBS.items():
        print(f"  {name:<10} {summary}")
    print("\nOptions:")
    for option in GLOBAL:
        flags = ", ".join(option.names) + (f" {option.value}" if option.value else "")
        print(f"  {flags:<26} {option.help}")
    return 0


def _report(problem: BaseException, settings: dict[str, Any]) -> int:
    """Tell standard error, and the log file that an engine reads, what went wrong."""
    code = 1
    if isinstance(problem, RootlessError):
        message, hint = problem.message, problem.hint
        code = problem.exit_code if problem.exit_code in (126, 127) else 1
    elif isinstance(problem, KeyboardInterrupt):
        return 130
    elif isinstance(problem, OSError) and problem.strerror:
        about = f": {os.fsdecode(problem.filename)}" if problem.filename else ""
        message, hint = problem.strerror.lower() + about, ""
    else:
        message, hint = f"internal error: {type(problem).__name__}: {problem}", ""
    text = f"rootless-oci: {message}\n" + (f"hint: {hint}\n" if hint else "")
    try:
        os.write(2, text.encode(errors="backslashreplace"))
        if settings.get("log"):
            _append(settings["log"], settings["log_format"], message)
    except OSError:
        pass
    if log.is_debug():
        import traceback

        traceback.print_exception(problem)
    return code


def _append(path: str, form: str, message: str) -> None:
    """One line of the log, in the two forms of runc."""
    import time

    from rootless.oci import document

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if form == "json":
        line = document.dumps({"level": "error", "msg": message, "time": now})
    else:
        line = f'time="{now}" level=error msg={document.dumps(message).decode()}'.encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, line + b"\n")
    finally:
        os.close(fd)


def count(text: str, flag: str) -> int:
    """The number, 0 or more, that a flag was given; raises UsageError."""
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{flag}: not a number: {text}")
    return int(text)


def kept_descriptors(text: str) -> int:
    """The value of --preserve-fds; raises UsageError when one of the descriptors is not open."""
    number = count(text, "--preserve-fds")
    if (fd := process.first_closed(number)) >= 0:
        raise UsageError(f"--preserve-fds {number}: descriptor {fd} is not open")
    return number


def only(arguments: list[str], what: str = "a container id") -> str:
    """The one argument there must be; raises UsageError."""
    if len(arguments) != 1:
        raise UsageError(f"needs exactly {what}, not {len(arguments)} arguments")
    return arguments[0]
