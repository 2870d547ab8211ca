# SPDX-License-Identifier: Apache-2.0
"""Which ids inside the user namespace are which ids outside: choosing the map, and writing it.

With ranges in /etc/subuid and /etc/subgid the map is 0 -> caller, 1.. -> ranges, written by the
setuid programs newuidmap(1) and newgidmap(1). Without, a single id is mapped, which needs nobody.
"""

from __future__ import annotations

import os

from rootless.errors import HostUnable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Range = tuple[int, int, int]  # inside, outside, count: a line of /proc/PID/uid_map

_PROGRAM_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin")


class IdMap:
    """Ids inside and outside, and where the choice came from."""

    __slots__ = ("gids", "source", "uids")

    def __init__(self, uids: tuple[Range, ...], gids: tuple[Range, ...], source: str) -> None:
        self.uids = uids
        self.gids = gids
        self.source = source

    @property
    def is_single(self) -> bool:
        """True when only the caller's own ids are mapped."""
        return all(len(ranges) == 1 and ranges[0][2] == 1 for ranges in (self.uids, self.gids))

    @property
    def key(self) -> str:
        """Names the directory of layers whose owners are written under this map.

        Any single id gives the same files, all of them the caller's.
        """
        if self.is_single:
            return "single"
        text = "u" + _spell(self.uids)
        if self.gids != self.uids:
            text += "_g" + _spell(self.gids)
        if len(text) <= 200:
            return text
        import hashlib  # more ranges than a file name holds

        return "h" + hashlib.sha256(text.encode()).hexdigest()

    def to_host_uid(self, inside: int) -> int | None:
        """The uid outside of one inside, or None when it is not mapped."""
        return _translate(self.uids, inside)

    def to_host_gid(self, inside: int) -> int | None:
        """The gid outside of one inside, or None when it is not mapped."""
        return _translate(self.gids, inside)

    def to_inside_uid(self, outside: int) -> int | None:
        """The uid inside of one outside, or None when it is not mapped."""
        return _translate(_invert(self.uids), outside)

    def to_inside_gid(self, outside: int) -> int | None:
        """The gid inside of one outside, or None when it is not mapped."""
        return _translate(_invert(self.gids), outside)


def _invert(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    return tuple((outside, inside, count) for inside, outside, count in ranges)


def from_key(key: str) -> IdMap | None:
    """The map that `IdMap.key` named so; None for one that a key cannot spell."""
    for known in (default(), host()):
        if known.key == key:
            return known
    uids, _, gids = key.partition("_g")
    try:
        found = IdMap(_unspell(uids[1:]), _unspell(gids or uids[1:]), "the layers' directory")
    except ValueError:
        return None
    return found if found.key == key else None


def _unspell(text: str) -> tuple[Range, ...]:
    triples = [part.split(".") for part in text.split("-")]
    return tuple((int(inside), int(outside), int(count)) for inside, outside, count in triples)


def _spell(ranges: tuple[Range, ...]) -> str:
    return "-".join(f"{inside}.{outside}.{count}" for inside, outside, count in ranges)


def _translate(ranges: tuple[Range, ...], inside: int) -> int | None:
    for first, outside, count in ranges:
        if first <= inside < first + count:
            return outside + inside - first
    return None


# -- choosing ---------------------------------------------------------------------------------------


def default() -> IdMap:
    """0 is the caller; 1 and up are the caller's subordinate ids, if there are any."""
    return _with_caller_at(0, 0, "0 is you")


def keep_id(uid: int | None = None, gid: int | None = None) -> IdMap:
    """The caller keeps the ids (or appears as `uid` and `gid`); the ids around are subordinate ones."""
    uid = os.getuid() if uid is None else uid
    gid = os.getgid() if gid is None else gid
    return _with_caller_at(uid, gid, f"{uid}:{gid} is you (keep-id)")


def host() -> IdMap:
    """Only the caller's ids, with the numbers they have outside."""
    uid, gid = os.getuid(), os.getgid()
    return IdMap(((uid, uid, 1),), ((gid, gid, 1),), "only your own ids, as on the host")


def parse(text: str) -> IdMap:
    """The map a `--userns` value asks for: "" or auto, keep-id[:uid=N,gid=N], host.

    Raises UsageError for anything else.
    """
    mode, _, rest = text.partition(":")
    if mode in ("", "auto", "default") and not rest:
        return default()
    if mode == "host" and not rest:
        return host()
    if mode != "keep-id":
        raise UsageError(
            f"--userns: not a user namespace mode: {text}",
            hint="use keep-id, keep-id:uid=N,gid=N or host",
        )
    ids: dict[str, int] = {}
    for part in rest.split(",") if rest else ():
        key, _, number = part.partition("=")
        if key not in ("uid", "gid") or not _is_id(number):
            raise UsageError(
                f"--userns: not a keep-id option: {part}", hint="use keep-id:uid=N,gid=N"
            )
        ids[key] = int(number)
    return keep_id(ids.get("uid"), ids.get("gid"))


def _is_id(text: str) -> bool:
    """4294967295 is none: to the kernel it means "no change"."""
    return text.isascii() and text.isdecimal() and int(text) < 0xFFFFFFFF


def _with_caller_at(uid: int, gid: int, what: str) -> IdMap:
    ranges, lack = _subordinate_ranges()
    if ranges is None:
        return IdMap(
            ((uid, os.getuid(), 1),), ((gid, os.getgid(), 1),), f"{what}, the only one: {lack}"
        )
    uids = around(uid, os.getuid(), ranges[0])
    gids = around(gid, os.getgid(), ranges[1])
    return IdMap(uids, gids, f"{what}, the others from /etc/subuid and /etc/subgid")


def around(own: int, caller: int, ranges: list[tuple[int, int]]) -> tuple[Range, ...]:
    """Subordinate ranges (first id, count) laid out from 0 upward, the id `caller` put in at `own`."""
    lines: list[Range] = []
    inside = 0
    for start, count in ranges:
        if inside <= own < inside + count:
            below = own - inside
            if below:
                lines.append((inside, start, below))
            lines.append((own, caller, 1))
            lines.append((own + 1, start + below, count - below))
            inside += count + 1
        else:
            lines.append((inside, start, count))
            inside += count
    if own >= inside:
        lines.append((own, caller, 1))
    return tuple(line for line in lines if line[2])


def _subordinate_ranges() -> tuple[tuple[list[tuple[int, int]], list[tuple[int, int]]] | None, str]:
    """The caller's ranges of uids and gids, or None and what is lacking."""
    for program in ("newuidmap", "newgidmap"):
        if not find_program(program):
            return None, f"{program} is not installed"
    names = _caller_names()
    uids = read_ranges("/etc/subuid", names)
    if not uids:
        return None, "no entry in /etc/subuid"
    gids = read_ranges("/etc/subgid", names)
    if not gids:
        return None, "no entry in /etc/subgid"
    return (uids, gids), ""


def _caller_names() -> tuple[str, ...]:
    """How subuid(5) may call the caller: by login name and by number."""
    import pwd  # built into the interpreter; the host's NSS, before any fork

    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name, str(uid)
    except KeyError:
        return (str(uid),)


def read_ranges(path: str, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """The (first id, count) lines of subuid(5) for any of `names`; overlapping ones are left out."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    with open(fd, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    ranges: list[tuple[int, int]] = []
    for line in lines:
        name, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if name not in names or not (_is_id(first) and _is_id(count)):
            continue
        start, size = int(first), int(count)
        overlaps = any(start < s + c and s < start + size for s, c in ranges)
        if size and not overlaps and start + size <= 0xFFFFFFFF:
            ranges.append((start, size))
    return ranges


def find_program(name: str) -> str:
    """The path of a host program, "" when there is none; PATH first, then the usual places."""
    # os.get_exec_path() would import `warnings` to say this.
    for directory in (*os.environ.get("PATH", os.defpath).split(":"), *_PROGRAM_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


# -- writing ----------------------------------------------------------------------------------------


def write(pid: int, id_map: IdMap) -> None:
    """Give the new user namespace of process `pid` its map; see user_namespaces(7).

    Raises HostUnable when the host refuses.
    """
    ids = Writing(pid, id_map)
    try:
        ids.finish()
    finally:
        ids.close()


class Writing:
    """A map being written: newuidmap(1) and newgidmap(1) run while the caller does other things.

    Root of the namespace around, as within another engine, writes the files itself.
    """

    __slots__ = ("_children", "_errors", "_id_map", "_pid")

    def __init__(self, pid: int, id_map: IdMap) -> None:
        self._pid = pid
        self._id_map = id_map
        self._children: list[int] = []
        self._errors = -1
        if id_map.is_single or os.geteuid() == 0:
            return
        self._errors, writing = os.pipe2(os.O_CLOEXEC)
        try:
            for program, ranges in (("newuidmap", id_map.uids), ("newgidmap", id_map.gids)):
                self._children.append(_spawn(program, pid, ranges, writing))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(writing)

    def finish(self) -> None:
        """Wait until the ids are mapped; raises HostUnable when they cannot be."""
        if not self._children:
            _write_files(self._pid, self._id_map)
            return
        failed = self._wait()
        if failed:
            said = os.read(self._errors, 4096).decode(errors="replace").strip()
            said = said.replace("\n", "; ")
            raise HostUnable(
                f"cannot map subordinate ids: {said or 'newuidmap failed'}",
                hint="rootless doctor says what is wrong; --userns host does without",
            )

    def close(self) -> None:
        """Let nothing of it remain, finished or not."""
        self._wait()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def _wait(self) -> bool:
        """Wait for both programs; True when one of them failed."""
        failed = False
        while self._children:
            try:
                failed = os.waitpid(self._children[-1], 0)[1] != 0 or failed
            except ChildProcessError:
                pass  # Ctrl-C came between an earlier wait and its next line
            self._children.pop()
        return failed


def _spawn(program: str, pid: int, ranges: tuple[Range, ...], errors: int) -> int:
    arguments = [program, str(pid), *(str(number) for line in ranges for number in line)]
    path = find_program(program)
    if not path:
        raise HostUnable(f"cannot map subordinate ids: {program} is not installed")
    return os.posix_spawn(path, arguments, {}, file_actions=[(os.POSIX_SPAWN_DUP2, errors, 2)])


def _write_files(pid: int, id_map: IdMap) -> None:
    """Write /proc/PID/{uid,gid}_map ourselves: root any map, anybody the one of their own id.

    For that one, setgroups(2) has to be given up first (Linux 3.19).
    """
    files = [("uid_map", _lines(id_map.uids)), ("gid_map", _lines(id_map.gids))]
    if id_map.is_single and os.geteuid() != 0:
        files.insert(0, ("setgroups", "deny"))
    for name, text in files:
        try:
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as problem:
            raise HostUnable(
                f"cannot map ids into a user namespace: {name}: {problem.strerror}",
                hint="rootless doctor says what this machine restricts",
            ) from None


def _lines(ranges: tuple[Range, ...]) -> str:
    return "\n".join(" ".join(map(str, line)) for line in ranges)


def read(process: str) -> IdMap:
    """The map of the user namespace that a process, such as /proc/self, is in.

    The kernel shows the outer ids as the reader's own namespace sees them.
    """
    maps = []
    for name in ("uid_map", "gid_map"):
        fd = os.open(f"{process}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, encoding="ascii") as file:
            numbers = [[int(word) for word in line.split()] for line in file]
        maps.append(tuple((inside, outside, count) for inside, outside, count in numbers))
    return IdMap(maps[0], maps[1], f"the user namespace of {process}")
