# SPDX-License-Identifier: Apache-2.0
"""An OCI configuration (runtime-spec config.json, a dict) becomes a Recipe.

The one place that gives the specification's words their meaning; `rootless run` and the OCI
runtime command line both come through here.
"""

from __future__ import annotations

import os
import resource

from rootless.errors import Invalid
from rootless.linux import capability, mount, namespaces
from rootless.runtime import rootfs
from rootless.runtime.process import Command, Hostname, Identity, Limits
from rootless.runtime.recipe import Recipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.idmap import IdMap
    from rootless.runtime.labels import Label
    from rootless.runtime.rootfs import Step

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)

# config.md, "Linux mount options": option -> (bits to set, bits to clear).
_RDONLY, _NOSUID = mount.MOUNT_ATTR_RDONLY, mount.MOUNT_ATTR_NOSUID
_NODEV, _NOEXEC = mount.MOUNT_ATTR_NODEV, mount.MOUNT_ATTR_NOEXEC
_ATIME = mount.MOUNT_ATTR__ATIME
_ATTRIBUTES = {
    "ro": (_RDONLY, 0),
    "rw": (0, 0),
    "nosuid": (_NOSUID, 0),
    "suid": (0, _NOSUID),
    "nodev": (_NODEV, 0),
    "dev": (0, _NODEV),
    "noexec": (_NOEXEC, 0),
    "exec": (0, _NOEXEC),
    "noatime": (mount.MOUNT_ATTR_NOATIME, _ATIME),
    "relatime": (0, _ATIME),
    "strictatime": (mount.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nodiratime": (mount.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, mount.MOUNT_ATTR_NODIRATIME),
    "atime": (0, _ATIME),
    "norelatime": (0, 0),
    "nostrictatime": (0, _ATIME),
    "nosymfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, mount.MOUNT_ATTR_NOSYMFOLLOW),
}
# Of mount(8), without a meaning for a new mount.
_WITHOUT_MEANING = (
    "acl",
    "defaults",
    "iversion",
    "loud",
    "noacl",
    "noiversion",
    "remount",
    "silent",
)
# Passed on to a new file system, which has them from the kernel.
_FLAGS = ("async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync")
_PROPAGATION = {
    "private": mount.MS_PRIVATE, "rprivate": mount.MS_PRIVATE,
    "slave": mount.MS_SLAVE, "rslave": mount.MS_SLAVE,
    "shared": mount.MS_SHARED, "rshared": mount.MS_SHARED,
    "unbindable": mount.MS_UNBINDABLE, "runbindable": mount.MS_UNBINDABLE,
}  # fmt: skip


def compose(
    config: dict[str, Any],
    root: Step,
    id_map: IdMap,
    *,
    user: str | None = None,
    create_directory: bool = False,
    reasons: dict[str, str] | None = None,
    bundle: str = "",
    deep: bool = True,
) -> Recipe:
    """The launch that `config` describes, on the root file system that the step `root` mounts.

    `user`, when given, is resolved inside the container and replaces process.user. `reasons` says
    for mount destinations why they are there. Sources of bind mounts are relative to `bundle`. With
    `deep`, as docker means it, `ro` and its kin hold for what is mounted below the source of an
    rbind too; in the specification that is what `rro` is for. Nothing is opened or written.
    Raises Invalid naming the place in the configuration, for one that nobody has validated.
    """
    process = config["process"]
    linux = config.get("linux", {})
    steps: list[Step] = [rootfs.Isolate("own mount namespace"), root]
    for entry in config.get("mounts", ()):
        steps.append(
            mount_step(entry, reasons or {}, bundle=bundle, deep=deep, id_map=id_map, linux=linux)
        )
    steps += _device_steps(config)
    label = label_of(process)
    steps += _kernel_steps(config, label)
    if paths := linux.get("readonlyPaths"):
        steps.append(rootfs.ReadOnly(paths, "kernel settings"))
    if paths := linux.get("maskedPaths"):
        steps.append(rootfs.Mask(paths, "what tells about the host"))
    if config.get("root", {}).get("readonly"):
        steps.append(rootfs.ReadOnlyRoot("asked for"))
    steps.append(rootfs.Pivot())
    if propagation := linux.get("rootfsPropagation"):
        steps.append(_propagation_step(propagation, root))
    if config.get("hostname") or config.get("domainname"):
        steps.append(Hostname(config.get("hostname", ""), config.get("domainname", "")))
    steps += process_steps(process, linux)
    unshare = 0
    for entry in linux.get("namespaces", ()):
        unshare |= namespaces.BY_NAME[entry["type"]][0]
    command = Command(
        process["args"], environment(process.get("env", ())), process["cwd"], create_directory
    )
    recipe = Recipe(id_map, unshare, steps, identity(process, id_map, user), command)
    recipe.umask = process.get("user", {}).get("umask", 0o022)
    if label is not None:
        recipe.final_steps = [label.steps()[1]]
    if offsets := linux.get("timeOffsets"):
        from rootless.runtime import kernel

        recipe.clock_offsets = kernel.clock_offsets(offsets)
    return recipe


def process_steps(
    process: dict[str, Any], linux: dict[str, Any], *, exec_: bool = False
) -> list[Step]:
    """What `process` asks of the kernel besides its identity, to be done inside the container.

    With `exec_` the process is one more in a container, so that execCPUAffinity applies.
    """
    steps: list[Step] = []
    if limits := process.get("rlimits"):
        steps.append(Limits([_limit(entry) for entry in limits], "asked for"))
    affinity = (process.get("execCPUAffinity") or {}) if exec_ else {}
    wanted = affinity.get("final") or affinity.get("initial")
    asked = [process.get("scheduler"), process.get("ioPriority"), linux.get("personality"), wanted]
    if not any(asked):
        return steps
    from rootless.runtime import scheduling

    scheduler, priority, personality, _ = asked
    if wanted:
        steps.append(scheduling.Affinity(scheduling.processors(wanted), "process.execCPUAffinity"))
    if scheduler:
        steps.append(scheduling.Scheduler(scheduler, "process.scheduler"))
    if priority:
        steps.append(scheduling.DiskPriority(priority, "process.ioPriority"))
    if personality:
        steps.append(scheduling.Personality(personality["domain"], "linux.personality"))
    return steps


def _device_steps(config: dict[str, Any]) -> list[Step]:
    """Devices and links, unless /dev is a directory of the host's: that is complete, and not ours."""
    for entry in config.get("mounts", ()):
        if entry["destination"].rstrip("/") == "/dev" and _is_bind(entry):
            return []
    steps: list[Step] = [rootfs.Devices(DEVICES, "bound from the host: mknod(2) is not allowed")]
    if nodes := config.get("linux", {}).get("devices"):
        from rootless.runtime import devices

        steps.append(devices.Nodes(nodes, "linux.devices"))
    steps.append(rootfs.Links(LINKS))
    return steps


def _kernel_steps(config: dict[str, Any], label: Label | None) -> list[Step]:
    """What is written below /proc and /sys, while they are still the host's."""
    linux = config.get("linux", {})
    score = config["process"].get("oomScoreAdj")
    group, settings = linux.get("intelRdt"), linux.get("sysctl")
    steps: list[Step] = []
    if label is not None:
        steps.append(label.steps()[0])
    if linux.get("mountLabel"):
        from rootless.runtime import labels

        steps.append(labels.Required("SELinux"))
    if score is None and not group and not settings:
        return steps
    from rootless.oci.runtime_linux import sysctl_path
    from rootless.runtime import kernel

    if settings:
        paths = {sysctl_path(key): value for key, value in settings.items()}
        steps.append(kernel.Settings(paths, "of the container's own namespaces"))
    if score is not None:
        joined = {entry["type"] for entry in linux.get("namespaces", ()) if entry.get("path")}
        alone = joined.isdisjoint(("pid", "user"))
        steps.append(kernel.OutOfMemoryScore(score, "process.oomScoreAdj", alone=alone))
    if group:
        steps.append(kernel.ResourceGroup(group, "linux.intelRdt"))
    return steps


def label_of(process: dict[str, Any]) -> Label | None:
    """The label of a security module for the command; "unconfined" is what it has anyway."""
    profile, label = process.get("apparmorProfile"), process.get("selinuxLabel")
    if not label and profile in (None, "", "unconfined"):
        return None
    from rootless.runtime import labels

    return labels.Label("SELinux", label) if label else labels.Label("AppArmor", str(profile))


def _propagation_step(spelled: str, root: Step) -> Step:
    from rootless.runtime import mounts

    flag = _PROPAGATION[spelled]
    if flag in (mount.MS_SLAVE, mount.MS_SHARED) and isinstance(root, rootfs.BindRoot):
        root.propagation = mount.MS_SLAVE  # what the host mounts below it later is to come through
    return mounts.RootPropagation(spelled, flag | (mount.MS_REC if spelled[0] == "r" else 0))


# -- mounts ------------------------------------------------------------------------------------------


def mount_step(
    entry: dict[str, Any],
    reasons: dict[str, str],
    *,
    bundle: str = "",
    deep: bool = True,
    id_map: IdMap | None = None,
    linux: dict[str, Any] | None = None,
) -> Step:
    """One member of `mounts` as a step; the parameters are those of `compose`."""
    destination, kind = entry["destination"], entry.get("type", "")
    source = entry.get("source", "")
    options = entry.get("options", ())
    parsed = parse_options(options)
    reason = reasons.get(destination, "")
    is_bind = parsed.bind or kind in ("bind", "rbind")
    parsed.recursive, parsed.deep = "bind" not in options, deep
    if is_bind:
        kind, source = "", os.path.join(bundle, source) if bundle else source
    elif source == "none":
        source = ""
    if (label := (linux or {}).get("mountLabel")) and kind in ("tmpfs", "devpts"):
        parsed.data.append(("context", label))
    # A new file system is private, and a cgroup file system has its own ways out: both stay plain.
    spreads = parsed.propagation not in (0, mount.MS_PRIVATE) and not is_bind
    spreads = spreads and kind not in ("cgroup", "cgroup2")
    if parsed.is_elaborate or entry.get("uidMappings") or spreads:
        return _elaborate(entry, kind, source, parsed, id_map, reason)
    if is_bind:
        return rootfs.Bind(
            source,
            destination,
            attributes=parsed.set,
            clear=parsed.clear,
            recursive=parsed.recursive,
            deep=deep,
            propagation=parsed.propagation or mount.MS_PRIVATE,
            reason=reason,
        )
    if kind in ("cgroup", "cgroup2"):
        return rootfs.CgroupMount(kind, destination, parsed.data, parsed.set, reason)
    return rootfs.Mount(kind, destination, parsed.data, parsed.set, reason, source)


def _elaborate(
    entry: dict[str, Any],
    kind: str,
    source: str,
    parsed: Options,
    id_map: IdMap | None,
    reason: str,
) -> Step:
    from rootless.runtime import mounts

    mapping = None
    if (parsed.maps_ids or entry.get("uidMappings")) and id_map is not None:
        uids, gids = (
            [(e["containerID"], e["hostID"], e["size"]) for e in entry.get(key, ())]
            for key in ("uidMappings", "gidMappings")
        )
        mapping = mounts.mount_map(uids, gids, id_map, is_recursive=parsed.maps_ids == "ridmap")
    if kind == "cgroup":
        kind = "cgroup2"
    if not kind and not parsed.propagation:
        parsed.propagation = mount.MS_PRIVATE
    return mounts.Elaborate(kind, source, entry["destination"], parsed, mapping, reason)


def _is_bind(entry: dict[str, Any]) -> bool:
    options = entry.get("options", ())
    return "bind" in options or "rbind" in options or entry.get("type") in ("bind", "rbind")


class Options:
    """Mount options sorted by what they are for."""

    __slots__ = (
        "bind", "clear", "clear_below", "copies_link", "copies_up", "data", "deep",
        "follows_destination", "follows_source", "maps_ids", "propagation", "recursive", "set",
        "set_below",
    )  # fmt: skip

    def __init__(self) -> None:
        self.set = 0
        self.clear = 0
        self.set_below = 0  # also for what is mounted below: rro and its kin
        self.clear_below = 0
        self.propagation = 0
        self.bind = False
        self.recursive = False  # a bind mount brings along what is mounted below
        self.deep = False  # and `set` and `clear` hold there too
        self.maps_ids = ""  # idmap, ridmap
        self.copies_up = False
        self.copies_link = False
        self.follows_source = True
        self.follows_destination = True
        self.data: list[tuple[str, str | None]] = []

    @property
    def is_elaborate(self) -> bool:
        """Whether it takes more than the plain steps of `runtime.rootfs`."""
        return bool(
            self.set_below
            or self.clear_below
            or self.maps_ids
            or self.copies_up
            or self.copies_link
        ) or not (self.follows_source and self.follows_destination)

    def spell(self) -> list[str]:
        """As options, for a person."""
        words = rootfs.spell_attributes(self.set)
        words += ["r" + word for word in rootfs.spell_attributes(self.set_below)]
        words += [key if value is None else f"{key}={value}" for key, value in self.data]
        words += [self.maps_ids] if self.maps_ids else []
        words += ["tmpcopyup"] if self.copies_up else []
        words += ["copy-symlink"] if self.copies_link else []
        words += [] if self.follows_source else ["src-nofollow"]
        words += [] if self.follows_destination else ["dest-nofollow"]
        return words


def parse_options(options: list[str] | tuple[str, ...]) -> Options:
    """Mount options as config.md lists them; what it does not list is for the file system."""
    parsed = Options()
    for option in options:
        if option in _ATTRIBUTES:
            bits, clear = _ATTRIBUTES[option]
            parsed.set = parsed.set & ~clear | bits
            parsed.clear |= clear
            if option == "rw":  # only takes back an earlier ro: what the host locked stays locked
                parsed.set &= ~_RDONLY
        elif option in _PROPAGATION:
            parsed.propagation = _PROPAGATION[option]
        elif option in ("bind", "rbind"):
            parsed.bind = True
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            bits, clear = (0, _RDONLY) if option == "rrw" else _ATTRIBUTES[option[1:]]
            parsed.set_below = parsed.set_below & ~clear | bits
            parsed.clear_below |= clear
        elif option in _SPECIAL:
            name, value = _SPECIAL[option]
            setattr(parsed, name, value)
        elif option not in _WITHOUT_MEANING:
            key, equals, text = option.partition("=")
            parsed.data.append((key, text if equals else None))
    return parsed


_SPECIAL: dict[str, tuple[str, object]] = {
    "idmap": ("maps_ids", "idmap"),
    "ridmap": ("maps_ids", "ridmap"),
    "tmpcopyup": ("copies_up", True),
    "copy-symlink": ("copies_link", True),
    "src-nofollow": ("follows_source", False),
    "dest-nofollow": ("follows_destination", False),
}


def mount_options() -> list[str]:
    """All options that are understood without asking a file system, sorted: for features.md."""
    recursive = ["r" + option for option in _ATTRIBUTES]
    own = [*_ATTRIBUTES, *recursive, *_PROPAGATION, *_SPECIAL, *_WITHOUT_MEANING, *_FLAGS]
    return sorted([*own, "bind", "rbind"])


# -- process -----------------------------------------------------------------------------------------


def environment(entries: list[str] | tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE strings as a dict; the last of several wins."""
    environment = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise Invalid(f"process.env: not KEY=VALUE: {entry!r}")
        environment[key] = value
    return environment


_RLIMIT_LOCKS = 10  # not in the resource module; getrlimit(2)


def _limit(entry: dict[str, Any]) -> tuple[str, int, int, int]:
    name = entry["type"]
    number = getattr(resource, name, _RLIMIT_LOCKS if name == "RLIMIT_LOCKS" else None)
    if number is None or not name.startswith("RLIMIT_"):
        raise Invalid(f"process.rlimits: no such limit: {name}")
    soft, hard = _signed(entry["soft"]), _signed(entry["hard"])
    return name.removeprefix("RLIMIT_").lower(), number, soft, hard


def _signed(limit: int) -> int:
    """The same 64 bits as the resource module takes them: RLIM_INFINITY is -1."""
    return limit - (1 << 64) if limit >= 1 << 63 else limit


def identity(process: dict[str, Any], id_map: IdMap, user: str | None) -> Identity:
    """Who `process` runs as; `user`, when given, instead of process.user. Raises Invalid."""
    spelled = process.get("user", {})
    if user is None:
        identity = Identity(f"{spelled.get('uid', 0)}:{spelled.get('gid', 0)}", id_map, "config")
        identity.additional_groups = list(spelled.get("additionalGids", ()))
    else:
        identity = Identity(user, id_map, "looked up in the container's /etc/passwd")
    identity.can_set_groups = not id_map.is_single
    identity.no_new_privs = process.get("noNewPrivileges", False)
    sets = process.get("capabilities", {})
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        try:
            setattr(identity, name, capability.mask(sets.get(name, ())))
        except KeyError as unknown:
            raise Invalid(f"process.capabilities.{name}: no such capability: {unknown}") from None
    return identity
