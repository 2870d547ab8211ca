# SPDX-License-Identifier: Apache-2.0
"""The verbs create, run and start of the OCI runtime: a bundle becomes a process.

`create` leaves process 1 prepared and waiting at a fifo; `start` lets it go. `run` does not wait.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Conflict, HostUnable, Invalid, LaunchFailed, NotFound
from rootless.linux import namespaces, process
from rootless.oci import document
from rootless.oci import runtime as specification
from rootless.runtime import (
    cgroup,
    compose,
    confine,
    hooks,
    idmap,
    kill,
    launch,
    resources,
    rootfs,
    state,
)
from rootless.runtime.container import Container, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.launch import Process
    from rootless.runtime.recipe import Recipe


class Options:
    """What the command line adds to a bundle."""

    __slots__ = (
        "bundle", "cgroups", "console_socket", "detach", "keep_keyring", "pid_file",
        "preserve_fds", "systemd_cgroup",
    )  # fmt: skip

    def __init__(self, bundle: str = ".") -> None:
        self.bundle = os.path.abspath(bundle)
        self.console_socket = ""
        self.pid_file = ""
        self.preserve_fds = 0
        self.keep_keyring = False  # do not join a new session keyring
        self.detach = False
        self.cgroups = True
        self.systemd_cgroup = False


class Creation:
    """One container being made of one bundle."""

    def __init__(self, root: str, container_id: str, options: Options) -> None:
        self.container = Container(root, container_id)
        self.options = options
        self.config = specification.load(options.bundle + "/config.json")
        if "process" not in self.config:
            raise Invalid("process: the configuration has none, so nothing can be run")
        self.descriptors: list[int] = []
        self.process: Process | None = None
        self.place: cgroup.Place | None = None
        self.serves_terminal = False  # the caller's own terminal serves the container's
        self.recipe = self._recipe()

    # -- planning ---------------------------------------------------------------------------------

    def _recipe(self) -> Recipe:
        """The launch, all of it, before anything is written."""
        config, options = self.config, self.options
        path = os.path.join(options.bundle, config["root"]["path"])
        if not os.path.isdir(path):
            raise NotFound(f"root.path: no such directory: {path}")
        kept = options.preserve_fds + _listening(config, options.preserve_fds)
        root = rootfs.BindRoot(os.path.realpath(path), "root of the bundle")
        id_map = _id_map(config)
        recipe = compose.compose(config, root, id_map, bundle=options.bundle, deep=False)
        self._add_filter(recipe)
        recipe.dies_with_parent = False
        recipe.kept = kept
        self._join_namespaces(recipe)
        self._add_hooks(recipe)
        if not options.keep_keyring:
            recipe.steps = [confine.SessionKeyring(self.container.id), *recipe.steps]
        limits = resources.Resources(config.get("linux", {}).get("resources") or {})
        if options.cgroups:
            wanted = config.get("linux", {}).get("cgroupsPath", "")
            self.place = cgroup.place(wanted, self.container.id, limits)
            recipe.cgroup = self.place
        return recipe

    def _join_namespaces(self, recipe: Recipe) -> None:
        """Namespaces with a path are entered, the others made; see config-linux.md, "Namespaces"."""
        entered = []
        for entry in self.config.get("linux", {}).get("namespaces", ()):
            kind, _ = namespaces.BY_NAME[entry["type"]]
            if not entry.get("path"):
                continue
            recipe.unshare &= ~kind
            fd = _open_namespace(entry["path"], entry["type"])
            self.descriptors.append(fd)
            entered.append((fd, kind))
            if kind == namespaces.CLONE_NEWUSER:
                recipe.joins_user_namespace = True
        # The user namespace last, where the others belong to ours; first, where they belong to it.
        entered.sort(key=lambda item: item[1] == namespaces.CLONE_NEWUSER, reverse=True)
        recipe.entered = entered
        if not recipe.unshare & namespaces.CLONE_NEWNS and not any(
            kind == namespaces.CLONE_NEWNS for _, kind in entered
        ):
            raise Invalid(
                "linux.namespaces: a container without a mount namespace is not supported"
            )

    def _add_hooks(self, recipe: Recipe) -> None:
        configured = self.config.get("hooks") or {}
        told = self._told("creating", 0)
        if here := [*configured.get("prestart", ()), *configured.get("createRuntime", ())]:
            recipe.hooks = lambda pid: hooks.run(here, {**told, "pid": pid})
            recipe.insert_before("pivot", hooks.HostHooks(joined=bool(recipe.entered)))
        if inside := configured.get("createContainer"):
            recipe.insert_before("pivot", hooks.ContainerHooks("createContainer", inside, told))
        if last := configured.get("startContainer"):
            created = self._told("created", 0)
            step = hooks.ContainerHooks("startContainer", last, created)
            recipe.final_steps = [step, *recipe.final_steps]

    def _add_filter(self, recipe: Recipe) -> None:
        """The filter of linux.seccomp; one that asks a listener hands it over while we are here."""
        spelled = (self.config.get("linux") or {}).get("seccomp")
        if not spelled or not _asks(spelled):
            confine.apply(recipe, self.config["process"], self.config)
            return
        from rootless.runtime import seccomp_cache, seccomp_notify

        handover = seccomp_notify.Handover()
        made = seccomp_cache.of_document(spelled)
        step = seccomp_notify.NotifyingFilter("of the configuration", made, made.flags, handover)
        confine.add_filter(recipe, step, last=False)
        told = self._told("creating", 0)
        recipe.listener = lambda pid: seccomp_notify.deliver(
            handover, spelled, {**told, "pid": pid}
        )

    def _told(self, status: str, pid: int) -> dict[str, Any]:
        """The state as hooks see it."""
        return {
            "ociVersion": state.OCI_VERSION,
            "id": self.container.id,
            "status": status,
            "pid": pid,
            "bundle": self.options.bundle,
            "annotations": self.config.get("annotations") or {},
        }

    # -- acting -----------------------------------------------------------------------------------

    def launch(self, *, wait_at_gate: bool) -> Process:
        """Make the container; undone as a whole when anything fails."""
        self.container.make()
        with self.container:
            try:
                return self._launch(wait_at_gate)
            except BaseException:
                if self.place is not None:
                    self.place.remove()
                self.container.remove()
                raise

    def _launch(self, wait_at_gate: bool) -> Process:
        recipe, container = self.recipe, self.container
        recipe.private = (
            container.lock,
        )  # held by the waiting child, it would never be free again
        if wait_at_gate:
            os.mkfifo(container.fifo, 0o600)
            # For reading and writing: neither this nor the child's wait for a peer; see fifo(7).
            recipe.gate = os.open(container.fifo, os.O_RDWR | os.O_CLOEXEC)
            self.descriptors.append(recipe.gate)
        terminal = self._terminal()
        _write(container.directory + "/config.json", document.dumps(self.config))
        try:
            made = launch.start(recipe, created=self._created)
        except OSError as problem:  # a hook of ours
            about = f": {problem.filename}" if problem.filename else ""
            raise LaunchFailed(f"cannot create the container: {problem.strerror}{about}") from None
        finally:
            for fd in self.descriptors:
                os.close(fd)
        if terminal is not None:
            terminal.close()
        if not wait_at_gate:
            container.update(status="running")
            _run_poststart(container, self.config)
        return made

    def _created(self, made: Process) -> None:
        """Process 1 exists: from here on others can see the container, and what goes wrong ends it."""
        self.process = made
        stored = state.describe(
            self.container.id, made.pid, self.options.bundle, self.config.get("annotations") or {}
        )
        stored["status"] = "created"
        stored["rootfs"] = os.path.join(self.options.bundle, self.config["root"]["path"])
        stored["created"] = _timestamp()
        stored["owner"] = ""
        stored["cgroup"] = self.place.path if self.place is not None else ""
        state.write(self.container.directory, stored)
        if self.options.pid_file:
            _write(self.options.pid_file, str(made.pid).encode())

    def _terminal(self) -> Any:
        """The terminal step, sending its master to the console socket."""
        wants = self.config["process"].get("terminal", False)
        path = self.options.console_socket
        if path and not wants:
            raise Invalid("--console-socket is of no use: process.terminal is not set")
        if not wants or self.serves_terminal:
            return None
        if not path:
            raise Invalid(
                "process.terminal: a terminal needs somebody to serve it",
                hint="give --console-socket PATH, or run without --detach",
            )
        from rootless.runtime.console import Terminal, window_size

        step = Terminal(window_size(self.config["process"]), "process.terminal")
        step.connect_to(path)
        self.recipe.insert_before("pivot", step)
        self.recipe.owned_streams = (0,)
        return step


def create(root: str, container_id: str, options: Options) -> int:
    """The verb create; returns the pid of process 1, which waits for `start`."""
    return Creation(root, container_id, options).launch(wait_at_gate=True).pid


def start(root: str, container_id: str) -> None:
    """The verb start; raises Conflict unless the container is created."""
    with Container(root, container_id) as container:
        stored = container.state()
        if stored["status"] != "created":
            raise Conflict(f"cannot start container {container_id}: it is {stored['status']}")
        gate = container.open_gate()
        try:
            container.update(status="running")
            os.write(gate, b"s")
        finally:
            os.close(gate)
        os.unlink(container.fifo)
        _run_poststart(container, container.config())


def _run_poststart(container: Container, config: dict[str, Any]) -> None:
    """The poststart hooks; when one fails the container is stopped (runtime.md, "Lifecycle")."""
    after = (config.get("hooks") or {}).get("poststart")
    if not after:
        return
    stored = container.stored()
    try:
        hooks.run(after, {**public(stored), "status": "running"})
    except OSError as problem:
        kill.end(container, stored)
        about = f": {problem.filename}" if problem.filename else ""
        raise LaunchFailed(f"stopped the container: {problem.strerror}{about}") from None


# -- pieces ------------------------------------------------------------------------------------------


def _id_map(config: dict[str, Any]) -> idmap.IdMap:
    """The map of the container's user namespace, or of the one we are in."""
    linux = config.get("linux", {})
    paths = {entry["type"]: entry.get("path", "") for entry in linux.get("namespaces", ())}
    if "user" in paths and not paths["user"]:
        uids, gids = linux.get("uidMappings"), linux.get("gidMappings")
        if not uids and not gids:
            return idmap.default()  # as crun does: root is the caller, then the subordinate ids
        if not uids or not gids:
            raise Invalid(
                "linux.uidMappings: a user namespace needs uid and gid mappings, or neither"
            )
        return idmap.IdMap(_ranges(uids), _ranges(gids), "config.json")
    if "user" in paths:
        about = os.path.dirname(os.path.dirname(paths["user"]))
        return idmap.read(about if os.path.exists(about + "/uid_map") else "/proc/self")
    if os.geteuid() != 0:
        raise HostUnable(
            "linux.namespaces: without a user namespace this needs root",
            hint='rootless-oci spec --rootless writes a configuration that has one: {"type": "user"}',
        )
    return idmap.read("/proc/self")


def _asks(spelled: dict[str, Any]) -> bool:
    """Whether a filter has calls a listener decides about."""
    actions = [
        spelled.get("defaultAction"),
        *(g.get("action") for g in spelled.get("syscalls") or ()),
    ]
    return "SCMP_ACT_NOTIFY" in actions


def _ranges(entries: list[dict[str, int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((e["containerID"], e["hostID"], e["size"]) for e in entries)


def _open_namespace(path: str, kind: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        reason = (problem.strerror or "").lower()
        raise Invalid(
            f"linux.namespaces: cannot open the {kind} namespace {path}: {reason}"
        ) from None


def _listening(config: dict[str, Any], others: int) -> int:
    """How many listening sockets systemd passed us (sd_listen_fds(3)); the command gets them too."""
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or int(count) == 0:
        return 0
    if (fd := process.first_closed(others + int(count))) >= 0:
        raise Invalid(f"LISTEN_FDS {count}: descriptor {fd} is not open")
    environment = config["process"].setdefault("env", [])
    environment += [f"LISTEN_FDS={count}", "LISTEN_PID=1"]
    if names := os.environ.get("LISTEN_FDNAMES"):
        environment.append(f"LISTEN_FDNAMES={names}")
    return int(count)


def _write(path: str, data: bytes) -> None:
    """A file that is complete or not there."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    os.rename(temporary, path)


def _timestamp() -> str:
    """Now, as RFC 3339 in UTC."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
