# SPDX-License-Identifier: Apache-2.0
"""What this host can do, as far as tests depend on it: each ability is found by trying, once a run."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def is_strict(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a missing ability fails a test instead of skipping it: in CI, or when asked to."""
    values = (environ.get("CI", ""), environ.get("ROOTLESS_TEST_STRICT", ""))
    return any(value.lower() not in ("", "0", "false") for value in values)


def is_waived(ability: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the run was told to do without this ability (ROOTLESS_TEST_WITHOUT="subids fuse")."""
    return ability in environ.get("ROOTLESS_TEST_WITHOUT", "").split()


@functools.cache
def missing(ability: str) -> str:
    """Why the host lacks `ability`, or "" when it has it. KeyError for a name nobody defined."""
    if is_waived(ability):
        return "this run does without it"
    return PROBES[ability]()


def find_program(name: str) -> str | None:
    """The path of a program, also where an ordinary user's PATH does not look (/usr/sbin)."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)


def _program(name: str, package: str) -> Callable[[], str]:
    def probe() -> str:
        return "" if find_program(name) else f"no program {name}: apt-get install {package}"

    return probe


def _attempt(script: str, *arguments: str) -> str:
    """ "" when a shell script succeeds in new user and mount namespaces as their root."""
    if find_program("unshare") is None:
        return "no program unshare: apt-get install util-linux"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")


def _user_namespaces() -> str:
    return _attempt("true")


def _overlay() -> str:
    script = (
        'cd "$1"; mkdir l u w m; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w,userxattr m'
    )
    # A test's own directory, not /tmp at large: overlayfs cannot have every file system as upper.
    with tempfile.TemporaryDirectory() as directory:
        reason = _attempt(script, directory)
        # The kernel makes work/work with mode 0; the directory's owner may still remove it.
        work = Path(directory, "w", "work")
        if work.exists():
            work.chmod(0o700)
    return reason


def _fuse() -> str:
    if find_program("fuse-overlayfs") is None:
        return "no program fuse-overlayfs: apt-get install fuse-overlayfs"
    return _openable("/dev/fuse")


def _openable(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as problem:
        return f"cannot open {path}: {problem.strerror}"
    return ""


def _subordinate_ids() -> str:
    import pwd

    if find_program("newuidmap") is None:
        return "no program newuidmap: apt-get install uidmap"
    name = pwd.getpwuid(os.getuid()).pw_name
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(file).read_text().splitlines()
        except OSError as problem:
            return f"cannot read {file}: {problem.strerror}"
        if not any(line.partition(":")[0] in (name, str(os.getuid())) for line in lines):
            return f"no range for {name} in {file}"
    return ""


def _cgroup2() -> str:
    found = "not mounted"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == "/sys/fs/cgroup":
            found = after.split()[0]
    return "" if found == "cgroup2" else f"/sys/fs/cgroup is {found} and not cgroup2"


def _delegation() -> str:
    reason = _cgroup2()
    if reason:
        return reason
    own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    group = Path("/sys/fs/cgroup" + own)
    if not os.access(group / "cgroup.procs", os.W_OK):
        return f"cgroup {own} is not ours to write"
    controllers = (group / "cgroup.controllers").read_text().split()
    lacking = {"memory", "pids"} - set(controllers)
    return f"cgroup {own} lacks controllers: {' '.join(sorted(lacking))}" if lacking else ""


def _compiler() -> str:
    if find_program("musl-gcc") or find_program("cc"):
        return ""
    return "no C compiler: apt-get install gcc libc6-dev"


def _libseccomp() -> str:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "no libseccomp.so.2: apt-get install libseccomp2"
    return ""


def _landlock() -> str:
    from rootless.linux import landlock

    return "" if landlock.abi_version() else "this kernel has no Landlock"


def _builds_for_i386() -> str:
    """Whether the compiler makes and the kernel runs 32-bit programs, here of no C library."""
    source = 'void _start(void) { __asm__ volatile ("int $0x80" :: "a"(1), "b"(0)); }'
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "program")
        command = ["gcc", "-m32", "-static", "-nostdlib", "-o", str(program), "-x", "c", "-"]
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, check=True)
            subprocess.run([program], check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            return f"no 32-bit programs of x86: {problem}"
    return ""


PROBES: dict[str, Callable[[], str]] = {
    "busybox": _program("busybox", "busybox-static"),
    "buildah": _program("buildah", "buildah"),
    "cc": _compiler,
    "cgroup2": _cgroup2,
    "conmon": _program("conmon", "conmon"),
    "crun": _program("crun", "crun"),
    "delegation": _delegation,
    "docker-registry": _program("docker-registry", "docker-registry"),
    "fuse": _fuse,
    "i386": _builds_for_i386,
    "landlock": _landlock,
    "libseccomp": _libseccomp,
    "mmdebstrap": _program("mmdebstrap", "mmdebstrap"),
    "openssl": _program("openssl", "openssl"),
    "overlay": _overlay,
    "pasta": _program("pasta", "passt"),
    "podman": _program("podman", "podman"),
    "skopeo": _program("skopeo", "skopeo"),
    "shellcheck": _program("shellcheck", "shellcheck"),
    "slirp4netns": _program("slirp4netns", "slirp4netns"),
    "subids": _subordinate_ids,
    "tun": lambda: _openable("/dev/net/tun"),
    "umoci": _program("umoci", "umoci"),
    "userns": _user_namespaces,
}
