# SPDX-License-Identifier: Apache-2.0
"""Values of docker's flags that have a grammar of their own: volumes, mounts, limits, sizes, environments.

Imported only when such a flag is given.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.request import Request

_UNITS = {"": 1, "b": 1} | {
    letter + ending: 1 << 10 * power
    for power, letter in enumerate("kmgtp", 1)
    for ending in ("", "b", "ib")
}
_MAX_DIGITS = 18  # of what the kernel holds in 64 bits
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_LIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip


def size(text: str, flag: str) -> int:
    """Bytes of docker's sizes: a number and b, k, m, g, t or p, such as 64m, 1.5g, 10KiB."""
    lower = text.lower()
    number = lower.rstrip("bikmgtp")
    unit = lower[len(number) :]
    value = _decimal(number.removesuffix(" "))
    if unit not in _UNITS or not 0 <= value < 1 << 40:
        raise UsageError(
            f'invalid argument "{text}" for {flag}: not a size', hint=f"use {flag} 64m"
        )
    return int(value * _UNITS[unit])


def cpus(text: str) -> float:
    """How many processors, such as 1.5."""
    value = _decimal(text)
    if not 0 < value < 1 << 16:
        raise UsageError(f'invalid argument "{text}" for --cpus', hint="use --cpus 1.5")
    return value


def _decimal(text: str) -> float:
    """Digits with at most one point; -1 for anything else that float() would take or not."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    return float(text) if digits.isascii() and digits.isdecimal() else -1.0


def ulimit(text: str) -> dict[str, Any]:
    """NAME=SOFT[:HARD] as a member of process.rlimits; -1 and unlimited mean no limit."""
    name, equals, rest = text.partition("=")
    soft, colon, hard = rest.partition(":")
    if name not in _LIMITS or not equals:
        raise UsageError(
            f'invalid argument "{text}" for --ulimit',
            hint=f"use --ulimit NAME=SOFT[:HARD] with one of {' '.join(_LIMITS)}",
        )
    low = _limit(soft, text)
    high = _limit(hard, text) if colon else low
    if high != -1 and (low == -1 or low > high):
        raise UsageError(f"--ulimit {text}: the soft limit is above the hard limit")
    return {"type": "RLIMIT_" + name.upper(), "soft": low, "hard": high}


def _limit(text: str, whole: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
        raise UsageError(f'invalid argument "{whole}" for --ulimit: {text!r} is not a number')
    return int(text)


def count(text: str, flag: str) -> int:
    """A whole number; -1 means no limit and is 0 here."""
    if text == "-1":
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
        raise UsageError(
            f'invalid argument "{text}" for {flag}: not a number', hint=f"use {flag} 100"
        )
    return int(text)


def security(options: list[str], request: Request) -> None:
    """Put --security-opt values into the request; what cannot be done says so."""
    for text in options:
        name, _, value = text.partition("=") if "=" in text else text.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            request.no_new_privileges = value != "false"
        elif name == "seccomp" and value:
            request.seccomp = os.path.abspath(value) if value not in _SECCOMP_WORDS else value
        elif name == "landlock" and value:
            request.landlock = value
        elif name == "apparmor" and value:
            request.apparmor = "" if value == "unconfined" else value
        elif name == "systempaths" and value == "unconfined":
            request.unmask = True
        elif name == "label" and value == "disable":
            continue  # no label is what a container gets
        else:
            raise UsageError(
                f"--security-opt {text} is not supported",
                hint="use no-new-privileges, seccomp=, landlock=, apparmor= or systempaths=unconfined",
            )


_SECCOMP_WORDS = ("default", "builtin", "unconfined")


def environment(entries: list[str], files: list[str]) -> tuple[list[str], list[str]]:
    """KEY=VALUE entries of -e and --env-file, files first, and the keys that are to be left out.

    A key without a value takes the caller's; one the caller does not have is left out (docker).
    """
    lines = [line for file in files for line in _environment_file(file)]
    found, unset = [], []
    for entry in (*lines, *entries):
        key, equals, _ = entry.partition("=")
        if not key:
            raise UsageError(f'invalid argument "{entry}" for --env: no name before the =')
        if equals:
            found.append(entry)
        elif key in os.environ:
            found.append(f"{key}={os.environ[key]}")
        else:
            unset.append(key)
    return found, unset


def _environment_file(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8"
        raise UsageError(f"cannot read --env-file {path}: {str(reason).lower()}") from None
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.removesuffix("\r").lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        key = stripped.partition("=")[0]
        if not key or any(character.isspace() for character in key):
            raise UsageError(f"{path}:{number}: the name '{key}' is empty or has spaces in it")
        if "\0" in stripped:
            raise UsageError(f"{path}:{number}: the value of '{key}' holds a NUL character")
        entries.append(stripped)
    return entries


def pairs(entries: list[str], flag: str) -> dict[str, str]:
    """KEY[=VALUE] entries as a dict, for labels and annotations."""
    found = {}
    for entry in entries:
        key, _, value = entry.partition("=")
        if not key:
            raise UsageError(f'invalid argument "{entry}" for {flag}: no key before the =')
        found[key] = value
    return found


# -- mounts ------------------------------------------------------------------------------------------


def volume(text: str) -> dict[str, Any]:
    """`-v SOURCE:TARGET[:OPTIONS]` as a mount of the runtime specification.

    A missing source is made, as docker does. Named volumes are not there yet and say so.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(
            f'invalid argument "{text}" for --volume', hint="use -v /host/path:/container/path[:ro]"
        )
    source, target = parts[0], _target(parts[1], "--volume")
    if not source.startswith(("/", ".", "~")):
        raise UsageError(
            f"named volumes are not supported yet: {source}",
            hint=f"name a directory: -v ./{source}:{target}",
        )
    source = os.path.abspath(os.path.expanduser(source))
    options = ["rbind", "rprivate"]
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            options.append(option)
        elif option in _PROPAGATIONS:
            options[1] = option
        elif option in ("consistent", "cached", "delegated", "z", "Z", "nocopy"):
            continue  # about other hosts' file sharing, SELinux where there is none, and volumes
        else:
            raise UsageError(f'invalid option "{option}" in --volume {text}')
    if not os.path.lexists(source):
        try:
            os.makedirs(source)
        except OSError as problem:
            raise UsageError(
                f"cannot make the bind source {source}: {str(problem.strerror).lower()}"
            ) from None
    return _bind(source, target, options)


def mount(text: str) -> dict[str, Any]:
    """`--mount type=bind|tmpfs,…` as a mount of the runtime specification."""
    values: dict[str, str] = {}
    for part in _fields(text):
        key, equals, value = part.partition("=")
        key = _MOUNT_KEYS.get(key, key)
        if key in values:
            raise UsageError(f"--mount {text}: {key} stands twice")
        values[key] = value if equals else "true"
    kind = values.pop("type", "volume")
    target = values.pop("target", "")
    if not target:
        raise UsageError(f"--mount {text}: no target", hint="add target=/container/path")
    target = _target(target, "--mount")
    if kind == "bind":
        made = _bind_mount(text, target, values)
    elif kind == "tmpfs":
        made = _tmpfs_mount(text, target, values)
    else:
        raise UsageError(
            f"--mount type={kind} is not supported yet", hint="use type=bind or type=tmpfs"
        )
    if values:
        raise UsageError(f"--mount {text}: unknown key for type {kind}: {next(iter(values))}")
    return made


def _fields(text: str) -> list[str]:
    """The fields of a line of CSV, so that a value with a comma can be quoted, as docker has it."""
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as problem:
        raise UsageError(f"--mount {text}: {problem}") from None


_MOUNT_KEYS = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly",
}  # fmt: skip


def _bind_mount(text: str, target: str, values: dict[str, str]) -> dict[str, Any]:
    source = values.pop("source", "")
    if not source:
        raise UsageError(f"--mount {text}: no source", hint="add source=/host/path")
    source = os.path.abspath(os.path.expanduser(source))
    propagation = values.pop("bind-propagation", "rprivate")
    if propagation not in _PROPAGATIONS:
        raise UsageError(f"--mount {text}: invalid mount option: bind-propagation={propagation}")
    recursive = values.pop("bind-recursive", "enabled")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise UsageError(f"--mount {text}: invalid mount option: bind-recursive={recursive}")
    flat = recursive == "disabled" or _boolean(values.pop("bind-nonrecursive", "false"), text)
    options = ["bind" if flat else "rbind", propagation]
    if _boolean(values.pop("readonly", "false"), text):
        options.append("ro")
    values.pop("consistency", None)
    create = _boolean(values.pop("bind-create-src", "false"), text)
    if not os.path.lexists(source):
        if not create:
            raise UsageError(
                f"bind source path does not exist: {source}", hint=f"mkdir -p {source}"
            )
        os.makedirs(source)
    return _bind(source, target, options)


def _tmpfs_mount(text: str, target: str, values: dict[str, str]) -> dict[str, Any]:
    options = ["nosuid", "nodev", "noexec"]
    if "tmpfs-size" in values:
        options.append(f"size={size(values.pop('tmpfs-size'), 'tmpfs-size')}")
    mode = values.pop("tmpfs-mode", "1777")
    if not mode or len(mode) > 5 or any(digit not in "01234567" for digit in mode):
        raise UsageError(f"--mount {text}: tmpfs-mode is not an octal number: {mode}")
    options.append(f"mode={mode}")
    if _boolean(values.pop("readonly", "false"), text):
        options.append("ro")
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def tmpfs(text: str) -> dict[str, Any]:
    """`--tmpfs TARGET[:OPTIONS]` as a mount of the runtime specification."""
    target, _, rest = text.partition(":")
    target = _target(target, "--tmpfs")
    options = ["nosuid", "nodev", "noexec", "mode=1777"]
    for option in rest.split(",") if rest else ():
        key, _, value = option.partition("=")
        if key in ("size", "nr_inodes", "nr_blocks") and not value.endswith("%"):
            options.append(f"{key}={size(value, '--tmpfs')}")
        elif _is_tmpfs_option(option):
            options.append(option)
        else:
            raise UsageError(f'invalid option "{option}" in --tmpfs {text}')
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _is_tmpfs_option(option: str) -> bool:
    if option in _TMPFS_WORDS:
        return True
    key, _, value = option.partition("=")
    if key == "mode":
        return bool(value) and all(digit in "01234567" for digit in value)
    if key == "size":
        value = value.removesuffix("%")
    return key in ("size", "uid", "gid") and value.isascii() and value.isdecimal()


_TMPFS_WORDS = ("rw", "ro", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "noatime")


def _bind(source: str, target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _target(path: str, flag: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"{flag}: the target '{path}' is not an absolute path")
    normal = os.path.normpath(path)
    normal = normal[1:] if normal.startswith("//") else normal
    if normal == "/":
        raise UsageError(f"{flag}: the target cannot be '/'")
    if normal == "/proc" or normal.startswith("/proc/"):
        from rootless.runtime.rootfs import PROC_ALLOWED

        if normal not in PROC_ALLOWED:
            raise UsageError(f"{flag}: {normal} cannot be mounted because it is inside /proc")
    return normal


def _boolean(text: str, whole: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise UsageError(f"--mount {whole}: {text!r} is neither true nor false")


def check_targets(mounts: list[dict[str, Any]]) -> None:
    """Two mounts on one target are a slip; raises UsageError as docker does."""
    targets = [entry["destination"] for entry in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"duplicate mount point: {target}")


def add_host(text: str) -> str:
    """NAME:ADDRESS or NAME=ADDRESS as a line of hosts(5)."""
    separator = "=" if "=" in text else ":"
    name, _, address = text.partition(separator)
    if not name or any(map(str.isspace, name)) or not _is_address(address.strip("[]")):
        raise UsageError(
            f'invalid argument "{text}" for --add-host', hint="use --add-host NAME:ADDRESS"
        )
    return f"{address.strip('[]')}\t{name}\n"


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
