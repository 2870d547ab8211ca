# SPDX-License-Identifier: Apache-2.0
"""From the words of the command line to one command and its exit code; the only place that prints errors.

Hot: imports exactly the module of the command that was asked for. A command module has `USAGE`
("rootless rm [OPTIONS] CONTAINER..."), `DESCRIPTION`, `OPTIONS` and `run(options, arguments, paths)
-> int`, and may have

    INTERSPERSED  False where the first argument ends the flags (`run`); True if absent
    ARGUMENTS     (least, most) number of arguments, `most` None for any; any number if absent
    FAILURE       the exit code of a failure that is ours (`run`: 125, as docker's); 1 if absent
    COMPLETE      what its arguments are, for `completion`: "container", "image", "command" or "file"
"""

from __future__ import annotations

import gc
import os
import sys

from rootless import configuration, log
from rootless.cli.options import Option, parse
from rootless.errors import NotFound, RootlessError, UsageError
from rootless.oci import reference
from rootless.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

GLOBAL = (
    Option("--root", value="dir", help="Directory of the store (default $ROOTLESS_ROOT)"),
    Option("--runroot", value="dir", help="Directory of what runs now (default $ROOTLESS_RUN)"),
    Option("--debug", "-D", help="Log what happens; print a traceback for an internal error"),
    Option("--version", "-v", help="Print the version and quit"),
    Option("--help", "-h", help="Print usage"),
)

# name: (module below rootless.cli, summary, group). Two words are a command of a management group
# that has no plain spelling.
COMMANDS = {
    "run": ("run", "Create and run a new container from an image", "Common"),
    "ps": ("ps", "List containers", "Common"),
    "pull": ("pull", "Download an image from a registry", "Common"),
    "images": ("images", "List images", "Common"),
    "doctor": (
        "doctor",
        "Probe what this machine can do, and how to mend what it cannot",
        "Common",
    ),
    "version": ("version", "Show the version", "Common"),
    "info": ("info", "Show facts about this machine and the store", "Common"),
    "help": ("help", "Show the help of a command", "Common"),
    "search": ("search", "Search a registry for images", "Common"),
    "completion": ("completion", "Print the completion script for a shell", "Commands"),
    "export": ("export", "Write the file system of a container as an archive", "Commands"),
    "history": ("history", "Show how an image came about", "Commands"),
    "import": ("import_", "Make an image of a root file system archive", "Commands"),
    "inspect": ("inspect", "Show everything about containers or images", "Commands"),
    "load": ("load", "Load images from an archive", "Commands"),
    "rm": ("rm", "Remove containers", "Commands"),
    "rmi": ("rmi", "Remove images", "Commands"),
    "login": ("login", "Log in to a registry", "Commands"),
    "logout": ("logout", "Log out of a registry", "Commands"),
    "push": ("push", "Upload an image to a registry", "Commands"),
    "save": ("save", "Write images into an archive", "Commands"),
    "tag": ("tag", "Give an image one more name", "Commands"),
    "untag": ("untag", "Take names from an image and keep it", "Commands"),
    "image diff": ("image_diff", "Compare the files of two images", "Management"),
    "image tree": ("image_tree", "Show images, their layers and what they share", "Management"),
    "manifest annotate": (
        "manifest_annotate",
        "Say which platform an entry of a manifest list is for",
        "Management",
    ),
    "manifest create": ("manifest_create", "Put together a manifest list", "Management"),
    "manifest inspect": (
        "manifest_inspect",
        "Show a manifest, or a manifest list",
        "Management",
    ),
    "manifest push": ("manifest_push", "Upload a manifest list to a registry", "Management"),
    "manifest rm": ("manifest_rm", "Forget manifest lists", "Management"),
    "container prune": ("container_prune", "Remove containers that do not run", "Management"),
    "image prune": ("image_prune", "Remove images that nothing uses", "Management"),
    "system check": ("system_check", "Find damage in the store, and mend it", "Management"),
    "system df": ("system_df", "Show what the store takes on the disk", "Management"),
    "system prune": ("system_prune", "Remove all that nothing uses", "Management"),
    "system reset": ("system_reset", "Remove the whole store", "Management"),
    "__complete": ("complete", "", ""),  # what the completion scripts call
}

# The management spellings: each stands for the words of a plain command.
MANAGEMENT: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "container": (
        "Manage containers",
        {
            "export": ("export",),
            "inspect": ("inspect", "--type=container"),
            "ls": ("ps",),
            "prune": ("container prune",),
            "rm": ("rm",),
            "run": ("run",),
        },
    ),
    "image": (
        "Manage images",
        {
            "diff": ("image diff",),
            "history": ("history",),
            "import": ("import",),
            "inspect": ("inspect", "--type=image"),
            "load": ("load",),
            "ls": ("images",),
            "prune": ("image prune",),
            "pull": ("pull",),
            "push": ("push",),
            "rm": ("rmi",),
            "save": ("save",),
            "tag": ("tag",),
            "tree": ("image tree",),
            "untag": ("untag",),
        },
    ),
    "manifest": (
        "Manage manifest lists: one name for images of several platforms",
        {
            "annotate": ("manifest annotate",),
            "create": ("manifest create",),
            "inspect": ("manifest inspect",),
            "push": ("manifest push",),
            "rm": ("manifest rm",),
        },
    ),
    "system": (
        "Manage rootless",
        {
            "check": ("system check",),
            "df": ("system df",),
            "info": ("info",),
            "prune": ("system prune",),
            "reset": ("system reset",),
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv[1:]` if none is given) and return the exit code."""
    # On the way to a container nothing becomes garbage, and looking for it costs 0.7 ms.
    gc.disable()
    _open_standard_files()
    if sys.flags.no_site:
        sys.meta_path.append(_SiteOnDemand())
    try:
        code = dispatch(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as problem:
        return report(problem)
    return code


def load_command(name: str) -> ModuleType:
    """The module of a command in COMMANDS."""
    module = "rootless.cli." + COMMANDS[name][0]
    __import__(module)
    if name != "run":
        gc.enable()
    return sys.modules[module]


def command_options(command: ModuleType) -> tuple[Option, ...]:
    """Every flag a command takes: its own and `--help`, with `-h` where the letter is free."""
    own: tuple[Option, ...] = command.OPTIONS
    taken = any("-h" in option.names for option in own)
    names = ("--help",) if taken else ("--help", "-h")
    return (*own, Option(*names, help="Print usage"))


def dispatch(argv: Sequence[str]) -> int:
    """Run one command line; what goes wrong is raised as it is."""
    settings, words = parse(GLOBAL, argv, interspersed=False)
    if settings["debug"]:
        log.set_level(log.DEBUG)
    if settings["version"]:
        from rootless import __version__

        print("rootless version", __version__)
        return 0
    title, words = _resolve(words)
    if not words:
        from rootless.cli.help import print_group, print_overview

        return print_group(title) if title else print_overview()
    if settings["help"]:
        words = [words[0], "--help"]
    command = load_command(words[0])
    try:
        return _run(command, title, words[1:], settings)
    except RootlessError as problem:
        if isinstance(problem, UsageError) and not problem.hint:
            problem.hint = f"see `rootless {title} --help`"
        if problem.exit_code == 1:
            problem.exit_code = getattr(command, "FAILURE", 1)
        raise
    except OSError as problem:
        if isinstance(problem, BrokenPipeError) or not problem.strerror:
            raise
        failure = RootlessError(_sentence(problem))
        failure.exit_code = getattr(command, "FAILURE", 1)
        raise failure from problem


def _run(command: ModuleType, title: str, words: Sequence[str], settings: dict[str, Any]) -> int:
    interspersed = getattr(command, "INTERSPERSED", True)
    options, arguments = parse(command_options(command), words, interspersed=interspersed)
    if options.pop("help"):
        from rootless.cli.help import print_command

        return print_command(title, command)
    _check_count(title, len(arguments), *getattr(command, "ARGUMENTS", (0, None)))
    paths = Paths.from_environment(data=settings["root"] or "", run=settings["runroot"] or "")
    reference.use_default_domain(configuration.load(run=paths.run).default_domain)
    code: int = command.run(options, arguments, paths)
    return code


def _resolve(words: list[str]) -> tuple[str, list[str]]:
    """(how the command was spelled, its plain words): `image ls -q` is ("image ls", [images, -q]).

    The words are empty when a management command stands alone, and asks for its help.
    """
    if not words or (words[0] in COMMANDS and " " not in words[0]):
        return (words[0] if words else ""), words
    if words[0] not in MANAGEMENT:
        raise _unknown_command(words[0], [*COMMANDS, *MANAGEMENT])
    group, rest = words[0], words[1:]
    if not rest or rest[0] in ("--help", "-h"):
        return group, []
    members = MANAGEMENT[group][1]
    if rest[0] not in members:
        raise _unknown_command(f"{group} {rest[0]}", [f"{group} {name}" for name in members])
    return f"{group} {rest[0]}", [*members[rest[0]], *rest[1:]]


def _unknown_command(name: str, known: Sequence[str]) -> NotFound:
    from rootless.cli.help import closest

    guess = closest(name, known)
    hint = f"did you mean `rootless {guess}`?" if guess else "see `rootless --help`"
    return NotFound(f"'{name}' is not a rootless command", hint=hint)


def _check_count(title: str, count: int, least: int, most: int | None) -> None:
    if count < least:
        text = f"at least {least}" if most != least else f"exactly {least}"
    elif most is not None and count > most:
        text = ("at most " if most != least else "exactly ") + str(most) if most else "no"
    else:
        return
    plural = "" if text.endswith(" 1") else "s"
    problem = UsageError(f"`rootless {title}` takes {text} argument{plural}, not {count}")
    problem.exit_code = 1  # as docker's; only flags end in 125
    raise problem


def report(problem: BaseException) -> int:
    """Tell the user what went wrong, in at most two lines, and return the exit code."""
    _flush_output()
    if isinstance(problem, RootlessError):
        _say(problem.message, problem.hint)
        code = problem.exit_code
    elif isinstance(problem, KeyboardInterrupt):
        code = 130
    elif isinstance(problem, BrokenPipeError):
        code = 141  # 128 + SIGPIPE: what a program ends with that does not ignore it
    elif isinstance(problem, OSError) and problem.strerror:
        _say(_sentence(problem))
        code = 1
    else:
        _say(f"internal error: {type(problem).__name__}: {problem}", "add --debug to see where")
        code = 125
    if log.is_debug():
        import traceback

        traceback.print_exception(problem)
    return code


def _sentence(problem: OSError) -> str:
    """`no space left on device: /path`: what the kernel said, and about what."""
    reason = problem.strerror or str(problem)
    subject = f": {os.fsdecode(problem.filename)}" if problem.filename else ""
    return reason[0].lower() + reason[1:] + subject


def _say(message: str, hint: str = "") -> None:
    text = f"rootless: {message}\n"
    if hint:
        is_plain = "NO_COLOR" in os.environ or not os.isatty(2)
        text += f"hint: {hint}\n" if is_plain else f"\x1b[36mhint:\x1b[0m {hint}\n"
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        pass


def _flush_output() -> None:
    """Write what was printed before the failure; if nobody takes it, let it go nowhere for good."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, 1)
        os.close(null)


def _open_standard_files() -> None:
    """Give descriptors 0 to 2 to /dev/null where the caller closed them.

    Otherwise the next file we open becomes the container's standard output.
    """
    for descriptor, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None and not _is_open(descriptor):
            os.set_inheritable(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class _SiteOnDemand:
    """A last-resort import finder that sets up `site` when a module is found nowhere else.

    We start with `python3 -S`, which saves `site` (and whatever .pth files do) on the way to a
    container. Cold code still finds its libraries wherever this interpreter keeps them.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if self not in sys.meta_path or name.partition(".")[0] == "rootless":
            return None
        sys.meta_path.remove(self)
        import site

        site.main()
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, path, target)
