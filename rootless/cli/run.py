# SPDX-License-Identifier: Apache-2.0
"""`rootless run`: flags to a Request, and on to the engine. Hot."""

from __future__ import annotations

from rootless.cli.options import Option
from rootless.engine import run as engine
from rootless.engine.request import Request
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.paths import Paths

USAGE = "rootless run [OPTIONS] IMAGE [COMMAND] [ARG...]"
DESCRIPTION = "Create and run a new container from an image"
INTERSPERSED = False
FAILURE = 125
COMPLETE = "image"

OPTIONS = (
    Option("--add-host", value="host:ip", many=True, help="Add a line to the container's /etc/hosts"),
    Option("--annotation", value="key=value", many=True, help="Add an annotation for the OCI runtime"),
    Option("--cap-add", value="name", many=True, help="Add a capability"),
    Option("--cap-drop", value="name", many=True, help="Drop a capability"),
    Option("--cidfile", value="file", help="Write the container id to a file"),
    Option("--cpus", value="number", help="How many processors it may use, such as 1.5"),
    Option("--domainname", value="name", help="NIS domain name of the container"),
    Option("--entrypoint", value="program", help="Replace the image's ENTRYPOINT"),
    Option("--env", "-e", value="key=value", many=True, help="Set an environment variable"),
    Option("--env-file", value="file", many=True, help="Read environment variables from a file"),
    Option("--explain", help="Show the plan and the reasons; run nothing"),
    Option("--format", value="format", help="With --explain: text or json", choices=("text", "json")),
    Option("--hostname", "-h", value="name", help="Host name of the container"),
    Option("--init", help="Run a process 1 that forwards signals and reaps"),
    Option("--interactive", "-i", help="Keep standard input open"),
    Option("--label", "-l", value="key=value", many=True, help="Set a label on the container"),
    Option("--memory", "-m", value="bytes", help="Memory limit, such as 512m"),
    Option("--mount", value="mount", many=True, help="type=bind,source=…,target=… or type=tmpfs,…"),
    Option("--name", value="name", help="Name of the container"),
    Option("--network", "--net", value="network", help="none: only loopback; host: the caller's", choices=("none", "host")),
    Option("--pids-limit", value="number", help="How many processes there may be"),
    Option("--platform", value="platform", help="os/architecture[/variant] of the image"),
    Option("--pull", value="policy", help="Pull the image: missing, always or never", choices=("missing", "always", "never")),
    Option("--quiet", "-q", help="No progress of a pull"),
    Option("--read-only", help="Make the container's root file system read-only"),
    Option("--rm", help="Remove the container when it ends"),
    Option("--rootfs", value="dir[:O]", help="Run a directory instead of an image; :O keeps it as it is"),
    Option("--security-opt", value="option", many=True, help="no-new-privileges, seccomp=FILE|unconfined, landlock=RULES, apparmor=PROFILE, systempaths=unconfined"),
    Option("--shm-size", value="bytes", help="Size of /dev/shm, such as 64m"),
    Option("--storage-driver", value="driver", help="overlay, fuse-overlayfs or copy"),
    Option("--tmpfs", value="path[:options]", many=True, help="Mount a tmpfs"),
    Option("--tty", "-t", help="Give it a terminal"),
    Option("--ulimit", value="name=soft[:hard]", many=True, help="Resource limit, such as nofile=1024"),
    Option("--user", "-u", value="user[:group]", help="User, by name or number"),
    Option("--userns", value="mode", help="keep-id[:uid=N,gid=N], or host: only your own ids"),
    Option("--volume", "-v", value="source:target[:ro]", many=True, help="Mount a directory or file of the host"),
    Option("--workdir", "-w", value="dir", help="Working directory of the command"),
)  # fmt: skip


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Run a container in the foreground; its exit code is ours."""
    request = _request(options, arguments)
    plan = engine.plan(paths, request, _puller(paths, request))
    if options["explain"]:
        from rootless.engine.explain import as_document, as_text
        from rootless.oci import document

        as_json = options["format"] == "json"
        print(document.dumps(as_document(plan)).decode() if as_json else as_text(plan))
        return 0
    return engine.execute(paths, plan)


def _puller(paths: Paths, request: Request) -> Callable[[str, str], dict[str, Any]]:
    def pull(image: str, platform: str) -> dict[str, Any]:
        return _pull(paths, image, platform, quiet=request.quiet)

    return pull


def _pull(paths: Paths, image: str, platform: str, *, quiet: bool) -> dict[str, Any]:
    """Fetch an image, telling about it on standard error: standard output is the container's."""
    import sys

    from rootless.cli.progress import shown
    from rootless.engine import images
    from rootless.oci.platform import parse

    if not quiet:
        print(f"Unable to find image '{image}' locally", file=sys.stderr, flush=True)
    with shown(quiet=quiet, stream=sys.stderr) as progress:
        return images.pull(paths, image, parse(platform) if platform else None, progress)


def _request(options: dict[str, Any], arguments: list[str]) -> Request:
    rootfs = options["rootfs"]
    if not rootfs and not arguments:
        raise UsageError(
            "`rootless run` needs an image", hint="rootless run --rm host cat /etc/os-release"
        )
    if options["format"] and not options["explain"]:
        raise UsageError("--format needs --explain")
    request = Request("" if rootfs else arguments[0], arguments if rootfs else arguments[1:])
    request.auto_remove = options["rm"]
    for name in (
        "tty",
        "interactive",
        "init",
        "quiet",
        "read_only",
        "cap_add",
        "cap_drop",
    ):
        setattr(request, name, options[name])
    for name in (
        "name",
        "user",
        "workdir",
        "hostname",
        "domainname",
        "userns",
        "platform",
        "cidfile",
        "rootfs",
        "storage_driver",
        "pull",
        "network",
    ):
        if options[name] is not None:
            setattr(request, name, options[name])
    request.entrypoint = options["entrypoint"]
    if any(options[name] for name in _GRAMMARS):
        _parse_grammars(request, options)
    return request


# Flags whose values need engine.flags, which is not imported without them.
_GRAMMARS = (
    "add_host", "annotation", "cpus", "env", "env_file", "label", "memory", "mount", "pids_limit",
    "security_opt", "shm_size", "tmpfs", "ulimit", "volume",
)  # fmt: skip


def _parse_grammars(request: Request, options: dict[str, Any]) -> None:
    from rootless.engine import flags

    request.add_host = [flags.add_host(text) for text in options["add_host"]]
    request.env, request.unset = flags.environment(options["env"], options["env_file"])
    request.labels = flags.pairs(options["label"], "--label")
    request.annotations = flags.pairs(options["annotation"], "--annotation")
    request.rlimits = [flags.ulimit(text) for text in options["ulimit"]]
    request.mounts = [
        *map(flags.volume, options["volume"]),
        *map(flags.mount, options["mount"]),
        *map(flags.tmpfs, options["tmpfs"]),
    ]
    flags.check_targets(request.mounts)
    if options["shm_size"]:
        # 0 asks for the default, as docker has it, and not for a tmpfs without limit.
        request.shm_size = flags.size(options["shm_size"], "--shm-size") or request.shm_size
    if options["memory"]:
        request.memory = flags.size(options["memory"], "--memory")
    if options["cpus"]:
        request.cpus = flags.cpus(options["cpus"])
    if options["pids_limit"]:
        request.pids_limit = flags.count(options["pids_limit"], "--pids-limit")
    flags.security(options["security_opt"], request)
