# SPDX-License-Identifier: Apache-2.0
"""The use case `run`: from a Request to a plan, and from a plan to an exit code. Hot.

`plan` decides everything and writes nothing (but what an absent image or layer needs first);
`execute` makes the container's directory, launches, waits, and cleans up.
"""

from __future__ import annotations

import _signal
import os
import time

from rootless import configuration, log
from rootless.engine import config as oci_config
from rootless.engine import names
from rootless.errors import Conflict, HostUnable, Interrupted, NotFound, UsageError
from rootless.images import records
from rootless.linux import tree
from rootless.oci import document
from rootless.runtime import compose, confine, idmap, launch, rootfs, seccomp_cache, state
from rootless.storage import store
from rootless.storage import union as unions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.engine.request import Request
    from rootless.paths import Paths
    from rootless.runtime.cgroup import Place
    from rootless.runtime.idmap import IdMap
    from rootless.runtime.recipe import Recipe
    from rootless.runtime.rootfs import Step

    Record = dict[str, Any]
    Pull = Callable[[str, str], Record]


class Plan:
    """One container before it exists: everything decided, with the reasons."""

    __slots__ = (
        "config", "driver", "id", "id_map", "image", "limits", "lowers", "reason", "reasons",
        "recipe", "request",
    )  # fmt: skip

    def __init__(self, request: Request, container_id: str, id_map: IdMap) -> None:
        self.request = request
        self.id = container_id
        self.id_map = id_map
        self.image: Record = {"id": "", "config": {}}
        self.driver = ""
        self.reason = ""
        self.lowers: list[str] = []
        self.config: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.limits: Place | None = None
        self.recipe: Recipe


def plan(paths: Paths, request: Request, pull: Pull | None = None) -> Plan:
    """Decide how the request will run.

    An image that is not there, or with `request.pull` "always", is fetched by `pull`, called with
    reference and platform and returning the image record; by `engine.images.pull` without.
    Raises NotFound, UsageError, HostUnable, RegistryError.
    """
    store.ensure(paths)
    state.ensure_runtime_directory(paths.run)
    id_map = idmap.parse(request.userns)
    made = Plan(request, names.new_id(), id_map)
    if request.rootfs:
        _plan_directory(paths, made)
    else:
        _plan_image(paths, made, pull)
    container = paths.container(made.id)
    image_config = made.image["config"]
    made.config = oci_config.build(
        request, image_config, made.id, id_map.to_host_gid(5) is not None
    )
    made.config["root"]["path"] = container + ("/rootfs" if made.driver == "copy" else "/merged")
    made.reasons = dict(oci_config.REASONS)
    _add_mounts(made, container)
    user = request.user or image_config.get("User", "") or _default_user(id_map)
    root, server = _root_step(paths, made)
    made.recipe = compose.compose(
        made.config, root, id_map, user=user, create_directory=True, reasons=made.reasons
    )
    made.recipe.server = server
    made.recipe.forwards_signals = True
    _add_walls(made)
    if request.init:
        _add_init(made)
    if request.memory or request.cpus or request.pids_limit:
        from rootless.runtime import cgroup

        limits = cgroup.Limits(request.memory, request.cpus, request.pids_limit)
        made.limits = made.recipe.cgroup = cgroup.plan(made.id, limits)
    return made


def execute(paths: Paths, made: Plan) -> int:
    """Run the plan to its end; returns the command's exit code (128 + n for signal n).

    Raises LaunchFailed and its kin; whatever happens, what was made is recorded or removed.
    """
    request = made.request
    previous = [(number, _signal.getsignal(number)) for number in (_signal.SIGTERM, _signal.SIGHUP)]
    for number, _ in previous:
        _signal.signal(number, _interrupt)
    if request.cidfile:
        _write_cidfile(request.cidfile, made.id)
    container = _Container(paths, made)
    try:
        code = container.run()
    except BaseException:
        container.discard()
        if request.cidfile:
            os.unlink(request.cidfile)
        raise
    else:
        container.finish(code)
    finally:
        for number, handler in previous:
            _signal.signal(number, handler)
    _sweep_others(paths)
    return code


def _sweep_others(paths: Paths) -> None:
    """If containers run, or seem to, clear away those whose keeper was killed."""
    try:
        others = os.listdir(paths.running)
    except FileNotFoundError:
        return
    if others:
        from rootless.engine.sweep import sweep

        sweep(paths, others)


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


# -- planning ----------------------------------------------------------------------------------------


def _plan_image(paths: Paths, made: Plan, pull: Pull | None) -> None:
    request, id_map = made.request, made.id_map
    image = records.find(paths, request.image) if request.pull != "always" else None
    if image is not None and request.platform and not image.get("host"):
        image = image if _is_platform(image, request.platform) else None
    if image is None:
        image = _pull(paths, request, pull)
    made.image = image
    made.driver, made.reason = _choose_driver(paths, made)
    if "lower" in image:
        made.lowers = list(image["lower"])
        return
    made.lowers = [
        paths.layer(id_map.key, layer["diff_id"]) + "/tree" for layer in reversed(image["layers"])
    ]
    if not all(map(os.path.isdir, made.lowers)):
        from rootless.engine.unpack import unpack_missing

        unpack_missing(paths, image, id_map)


def _pull(paths: Paths, request: Request, pull: Pull | None) -> Record:
    if request.pull == "never":
        raise NotFound(f"no such image: {request.image}", hint=f"rootless pull {request.image}")
    if pull is not None:
        return pull(request.image, request.platform)
    from rootless.engine import images
    from rootless.oci import platform

    wanted = platform.parse(request.platform) if request.platform else None
    return images.pull(paths, request.image, wanted)


def _is_platform(image: Record, wanted: str) -> bool:
    from rootless.oci import platform

    return platform.of(image["platform"]) in platform.candidates(platform.parse(wanted))


def _plan_directory(paths: Paths, made: Plan) -> None:
    """`--rootfs DIR`: the directory itself, or with `:O` a throw-away layer over it."""
    path, _, option = made.request.rootfs.partition(":")
    directory = os.path.abspath(path)
    if option not in ("", "O"):
        raise UsageError(f"--rootfs: no such option: {option}", hint="use --rootfs DIR or DIR:O")
    if not os.path.isdir(directory):
        raise UsageError(f"--rootfs: no such directory: {path}")
    made.lowers = [directory]
    made.driver, made.reason = "directory", "asked for with --rootfs"
    if option:
        made.driver, made.reason = _choose_driver(paths, made)


def _choose_driver(paths: Paths, made: Plan) -> tuple[str, str]:
    wanted = made.request.storage_driver or configuration.load(run=paths.run).driver
    return unions.choose(paths, made.id_map, wanted)


def _root_step(paths: Paths, made: Plan) -> tuple[Step, Any]:
    if made.driver == "directory":
        return rootfs.BindRoot(made.lowers[0], made.reason), None
    throwaway = made.request.auto_remove
    union = unions.union(
        made.driver, made.reason, made.lowers, paths.container(made.id), throwaway=throwaway
    )
    return union.step, union.server


def _default_user(id_map: IdMap) -> str:
    """The caller, under the number the map gives: root by default, the kept id with keep-id."""
    uid, gid = id_map.to_inside_uid(os.getuid()), id_map.to_inside_gid(os.getgid())
    return f"{uid}:{gid}" if uid else ""


def _add_mounts(made: Plan, container: str) -> None:
    """The image's own mounts, the files that name this container and the network, the user's."""
    request, mounts = made.request, made.config["mounts"]
    for entry in made.image.get("mounts", ()):
        mounts.append(entry)
        made.reasons[entry["destination"]] = "the host's own, read-only"
    files = ["hostname", "hosts"]
    if request.network == "host":
        files.append("resolv.conf")
        made.reasons["/sys"] = "the host's network is shown by the host's sysfs"
    asked = {entry["destination"] for entry in request.mounts}
    for name in files:
        if f"/etc/{name}" in asked:
            continue
        source = container + "/" + name
        if name == "resolv.conf":
            source = "/etc/resolv.conf"
        options = ["bind", "rprivate"] if name != "resolv.conf" else ["bind", "rprivate", "ro"]
        entry = {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": source,
            "options": options,
        }
        mounts.append(entry)
        made.reasons[f"/etc/{name}"] = "names and addresses"
    for entry in request.mounts:
        mounts.append(entry)
        made.reasons[entry["destination"]] = "asked for"


def _add_walls(made: Plan) -> None:
    """Landlock where it is asked for, and the system call filter unless it is not wanted."""
    request, recipe = made.request, made.recipe
    if request.landlock:
        from rootless.runtime import landlock

        recipe.identity.no_new_privs = True  # the kernel asks for it (landlock(7))
        recipe.final_steps = [*recipe.final_steps, landlock.parse(request.landlock)]
    if request.seccomp == "unconfined":
        return
    profile = "default" if request.seccomp == "builtin" else request.seccomp
    architecture = made.image.get("platform", {}).get("architecture", "")
    try:
        program = seccomp_cache.program(
            recipe.identity.bounding, profile, architecture=architecture
        )
    except HostUnable as problem:
        if profile != "default":
            raise
        # The other walls stand; a machine without libseccomp still runs containers.
        log.warning("seccomp.unavailable", reason=problem.message, hint=problem.hint)
        return
    step = confine.SyscallFilter(profile, program, program.flags)
    confine.add_filter(recipe, step, last=recipe.identity.no_new_privs)


_INIT = "/dev/init"


def _add_init(made: Plan) -> None:
    """`--init`: our small process 1 reaps and forwards; the command is its child."""
    program = os.path.dirname(os.path.dirname(__file__)) + "/bin/init"
    if not os.access(program, os.X_OK):
        raise NotFound(
            "--init: the helper program init was not built",
            hint="install rootless again with a C compiler present: apt install gcc libc6-dev",
        )
    entry = {
        "destination": _INIT, "type": "bind", "source": program,
        "options": ["bind", "rprivate", "ro", "nosuid", "nodev"],
    }  # fmt: skip
    made.config["mounts"].append(entry)
    recipe = made.recipe
    recipe.insert_before("pivot", compose.mount_step(entry, {_INIT: "asked for with --init"}))
    recipe.command.arguments = [_INIT, "--", *recipe.command.arguments]


# -- executing ---------------------------------------------------------------------------------------


class _Container:
    """The directory, name and record of one container while `run` holds it."""

    def __init__(self, paths: Paths, made: Plan) -> None:
        self.paths = paths
        self.plan = made
        self.directory = paths.container(made.id)
        self.state_directory = paths.state_directory(made.id)
        self.name = ""
        self.created = time.time()
        self.started = 0.0
        self.lock = -1

    def make(self) -> None:
        """Claim the name and write what others will read; the record comes last."""
        image = self.plan.image["id"]
        if not image or "lower" in self.plan.image:
            self._make()
            return
        # From here to the record nobody removes the image; afterwards the record says who uses it.
        with records.unchanging(self.paths):
            if not os.path.exists(self.paths.image(image)):
                raise NotFound(
                    f"image {self.plan.request.image} was removed meanwhile", hint="run it again"
                )
            self._make()

    def _make(self) -> None:
        made, request = self.plan, self.plan.request
        os.makedirs(self.state_directory, 0o700, exist_ok=True)
        while not self._make_directory():
            time.sleep(0.001)
        self.name = names.claim(self.paths, request.name, made.id)
        for name in ("upper", "work", "merged") if made.driver != "directory" else ():
            os.mkdir(f"{self.directory}/{name}", 0o755)
        if made.driver == "copy":
            from rootless.storage import copy

            copy.copy_layers(made.id_map, made.lowers, self.directory)
        hostname = made.config["hostname"]
        self._write("hostname", f"{hostname}\n".encode())
        self._write("hosts", _hosts(request, hostname).encode())
        self._write("config.json", document.dumps(made.config))
        self._record(None, 0.0)

    def run(self) -> int:
        """Launch and wait."""
        made, request = self.plan, self.plan.request
        recipe = made.recipe
        if request.tty or any(map(os.isatty, (0, 1, 2))):
            from rootless.runtime import foreground

            return foreground.run(recipe, request.tty, request.interactive, self._launch)
        if not request.interactive:
            recipe.streams = (os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 1, 2)
        process = self._launch(recipe)
        return process.wait()

    def _launch(self, recipe: Recipe) -> launch.Process:
        return launch.start(recipe, prepare=self.make, created=self._started)

    def _started(self, process: launch.Process) -> None:
        self.started = time.time()
        annotations = self.plan.request.annotations
        state.save(self.state_directory, self.plan.id, process.pid, self.directory, annotations)

    def finish(self, code: int) -> None:
        """The command has ended: remove the container, or record how it ended."""
        if self.plan.request.auto_remove:
            self.discard()
            return
        self._record(code, time.time())
        state.remove(self.state_directory)
        self._remove_cgroup()
        os.close(self.lock)

    def discard(self) -> None:
        """Remove every trace; what cannot be removed now is left to the next sweep."""
        state.remove(self.state_directory)
        self._remove_cgroup()
        if self.name:
            names.release(self.paths, self.name, self.plan.id)
        try:
            tree.remove(self.directory)
        except OSError:
            from rootless.runtime import userns

            try:
                userns.remove_tree(self.plan.id_map, self.directory)
            except OSError as problem:
                log.warning("container.not_removed", id=self.plan.id, reason=problem.strerror)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _remove_cgroup(self) -> None:
        if self.plan.limits is not None:
            self.plan.limits.remove()

    def _make_directory(self) -> bool:
        """Make the directory and lock it: that says that somebody looks after it; death releases it.

        False when a sweep saw it before it was locked, and takes it for abandoned.
        """
        import fcntl

        try:
            os.mkdir(self.directory, 0o700)
            self.lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, FileNotFoundError):
            return False
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(self.directory), os.fstat(self.lock)):
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(self.lock)
        self.lock = -1
        return False

    def _write(self, name: str, data: bytes) -> None:
        """A file of the container's directory, which nobody looks at before the record is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(f"{self.directory}/{name}", flags, 0o644)
        try:
            while data:
                data = data[os.write(fd, data) :]
            if not self.plan.request.auto_remove:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _record(self, code: int | None, finished: float) -> None:
        made, request = self.plan, self.plan.request
        record = {
            "id": made.id,
            "name": self.name,
            "created": self.created,
            "image": request.image or request.rootfs,
            "image_id": made.image["id"],
            "rootfs": made.lowers[0] if request.rootfs else "",
            "command": made.config["process"]["args"],
            "id_map": made.id_map.key,
            "uids": made.id_map.uids,
            "gids": made.id_map.gids,
            "driver": made.driver,
            "labels": {**(made.image["config"].get("Labels") or {}), **request.labels},
            "annotations": request.annotations,
            "auto_remove": request.auto_remove,
            "tty": request.tty,
            "exit_code": code,
            "started": self.started or None,
            "finished": finished or None,
        }
        self._write("container.new", document.dumps(record))
        os.rename(f"{self.directory}/container.new", self.paths.container_record(made.id))


def _hosts(request: Request, hostname: str) -> str:
    """hosts(5) for one container."""
    lines = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    names = f"{hostname}.{request.domainname} {hostname}" if request.domainname else hostname
    lines += f"127.0.0.1\t{names}\n"
    return lines + "".join(request.add_host)


def _write_cidfile(path: str, container_id: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Conflict(
            f"the container id file exists: {path}", hint=f"rm {path}, if its container is gone"
        ) from None
    except OSError as problem:
        raise UsageError(
            f"cannot write --cidfile {path}: {str(problem.strerror).lower()}"
        ) from None
    os.write(fd, container_id.encode())
    os.close(fd)
