# SPDX-License-Identifier: Apache-2.0
"""Past failures of container runtimes and engines, each as a test of ours, run as an ordinary user.

Every test carries the ids it is about (`pytest -m cve`, `pytest -k cve_2019_5736`). A sentinel on the
host, which hostile images point at, stays as it was, whatever happens. Others stand where their
subject is tested: 2022-27650 in kernel/test_oci_exec, 2025-23266 in kernel/test_oci_hooks, the
recycled pid of podman #25104 in kernel/test_oci_verbs, archives and registries beside this file.

Not here yet, because we have not got what they are about:
cp          CVE-2018-15664, CVE-2019-10152, CVE-2026-41568, CVE-2026-42306
volumes     CVE-2020-1726, CVE-2022-23648
the API     CVE-2020-14370, CVE-2022-23471, CVE-2022-31030, CVE-2024-34040, CVE-2024-41110,
            CVE-2025-64329, GHSA rows on sockets
checkpoint  CVE-2026-50195, CVE-2026-53489, CVE-2026-53492
top         CVE-2022-1227 of the engine; the verb ps of the runtime is tested
kube        CVE-2025-9566
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rootless as package
from rootless.linux import capability
from tests.lib import trees
from tests.lib.command_line import CommandLine
from tests.lib.oci_runtime import SUBORDINATE_IDS, Runtime
from tests.lib.victim import Victim, swapping

cve = pytest.mark.cve
SUBIDS = pytest.mark.needs("subids")
pytestmark = [pytest.mark.needs("userns"), pytest.mark.usefixtures("clean_host")]


@pytest.fixture
def victim(rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path) -> Iterator[Victim]:
    sentinel = tmp_path / "sentinel"
    (sentinel / "pts").mkdir(parents=True)
    for name in ("file", "ptmx", "hosts", "null", "console"):
        (sentinel / name).write_text(f"precious {name}")
    before = trees.digest(sentinel)
    yield Victim(rootless, rootfs(), sentinel)
    assert trees.digest(sentinel) == before


# -- mount points that are links ---------------------------------------------------------------------


@cve("CVE-2019-16884", "CVE-2019-19921", "CVE-2023-27561", "CVE-2023-28642")
@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("inside", [True, False])
def test_cve_2019_19921_proc_that_is_a_link_is_refused(
    victim: Victim, name: str, inside: bool
) -> None:
    """Also CVE-2019-16884, 2023-27561, 2023-28642: masks must lie on what they mask."""
    (victim.root / "elsewhere").mkdir()
    victim.replace(name, "/elsewhere" if inside else victim.sentinel)
    said = victim.refused("true")
    assert "must be mounted on an ordinary directory" in said
    assert f"/{name}" in said
    assert os.listdir(victim.root / "elsewhere") == []


@cve("CVE-2019-16884")
@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/1/../self", "/sys/../proc"])
def test_cve_2019_16884_volume_over_proc_is_refused(victim: Victim, target: str) -> None:
    volume = f"{victim.sentinel}:{target}"
    assert "inside /proc" in victim.refused("true", flags=("-v", volume))


@cve("CVE-2023-27561")
@pytest.mark.parametrize("where", ["/proc", "/proc/self/attr", "proc/sys"])
def test_cve_2023_27561_link_into_proc_as_a_mount_target_is_refused(
    victim: Victim, where: str
) -> None:
    """The string says /innocent, the link says /proc: what counts is where it ends."""
    victim.replace("innocent", where)
    said = victim.refused("true", flags=("-v", f"{victim.sentinel}:/innocent"))
    assert "inside /proc" in said


@cve("CVE-2026-41579", "CVE-2026-47766", "CVE-2025-54867")
@pytest.mark.parametrize("target", ["sentinel", "/", "/proc/self/fd", ".."])
def test_cve_2026_41579_dev_that_is_a_link_stays_inside(victim: Victim, target: str) -> None:
    victim.replace("dev", victim.sentinel if target == "sentinel" else target)
    done = victim.run("each", "stat", "/dev/null", ",", "ls", "/dev/")
    if done.returncode == 0:
        assert json.loads(done.stdout.splitlines()[0])["rdev"] == [1, 3]
    else:
        assert done.stderr.startswith("rootless: ")
    assert not (victim.sentinel / "fd").is_symlink()


@cve("CVE-2026-87766")
@pytest.mark.parametrize("name", ["dev/pts", "dev/shm", "dev/mqueue", "sys/fs"])
def test_cve_2026_87766_parents_that_are_links_stay_inside(victim: Victim, name: str) -> None:
    victim.replace(name, victim.sentinel)
    assert victim.seen("stat", "/dev/ptmx")


@cve("CVE-2026-87766")
def test_cve_2026_87766_target_below_a_link_is_made_inside(victim: Victim) -> None:
    victim.replace("a", victim.sentinel)
    flags = ("-v", f"{victim.sentinel}:/a/b/c:ro", "--tmpfs", "/a/d")
    assert "/a: is a symbolic link that leads nowhere" in victim.refused("true", flags=flags)
    inside = victim.root / str(victim.sentinel).lstrip("/")
    inside.mkdir(parents=True)
    victim.seen("true", flags=flags)
    assert (inside / "b" / "c").is_dir()
    assert (inside / "d").is_dir()


@cve("CVE-2026-87766")
def test_cve_2026_87766_absolute_links_of_ordinary_images_work(victim: Victim) -> None:
    """/var/run -> /run is in every distribution; hardening must not break it (moby #52653)."""
    (victim.root / "run").mkdir(exist_ok=True)
    (victim.root / "var" / "run").symlink_to("/run")
    (victim.root / "run").chmod(0o711)
    out = victim.seen("cat", "/run/here/file", flags=("-v", f"{victim.sentinel}:/var/run/here:ro"))
    assert out == "precious file"


@pytest.mark.parametrize("name", ["etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"])
def test_names_files_that_are_links_leave_the_host_alone(victim: Victim, name: str) -> None:
    victim.replace(name, victim.sentinel if name == "etc" else victim.sentinel / "hosts")
    done = victim.run("true", flags=("--network=host",))
    assert done.returncode in (0, 125)


@pytest.mark.parametrize(
    "target", ["/proc/self/fd/1", "/proc/self/exe", "/proc/1/root/etc/passwd", "/proc/self/environ"]
)
def test_names_files_that_are_links_into_proc_are_refused(victim: Victim, target: str) -> None:
    victim.replace("etc/hosts", target)
    done = victim.run("true")
    assert done.returncode == 125
    assert done.stderr.startswith("rootless: cannot start the container: bind")


# -- devices and terminals ---------------------------------------------------------------------------


@cve("CVE-2025-31133")
@pytest.mark.parametrize("kind", ["link", "file"])
def test_cve_2025_31133_null_device_of_the_image_is_not_used(victim: Victim, kind: str) -> None:
    (victim.root / "dev").mkdir(exist_ok=True)
    if kind == "link":
        victim.replace("dev/null", victim.sentinel / "null")
    else:
        (victim.root / "dev" / "null").write_text("mine")
    told = victim.seen("each", *["stat", "/dev/null", "/proc/keys", ",", "cat", "/proc/keys"])
    assert [json.loads(line)["rdev"] for line in told.splitlines()] == [[1, 3], [1, 3]]
    assert "Read-only" in victim.run("write", "/proc/sys/kernel/hostname", "h").stderr


@cve("CVE-2025-31133")
def test_cve_2025_31133_volume_over_dev_does_not_unmask(victim: Victim) -> None:
    fake = victim.sentinel.parent / "fake"
    fake.mkdir()
    (fake / "null").symlink_to(victim.sentinel / "null")
    done = victim.run("cat", "/proc/keys", flags=("-v", f"{fake}:/dev"))
    assert done.stdout == ""
    assert done.returncode in (0, 125)


@cve("CVE-2025-52565")
@pytest.mark.parametrize("target", ["sentinel", "/proc/sys/kernel/core_pattern", "/proc/self/fd/0"])
def test_cve_2025_52565_console_is_the_new_terminal(victim: Victim, target: str) -> None:
    (victim.root / "dev").mkdir(exist_ok=True)
    victim.replace("dev/console", victim.sentinel / "console" if target == "sentinel" else target)
    told = json.loads(victim.seen("stat", "/dev/console", flags=("-t",)).replace("\r", ""))
    assert (told["type"], told["rdev"][0]) == ("character", 136)


@cve("CVE-2025-52565")
@pytest.mark.parametrize("name", ["dev/ptmx", "dev/pts/0", "dev/pts/ptmx"])
def test_cve_2025_52565_terminals_of_the_image_are_not_used(victim: Victim, name: str) -> None:
    (victim.root / name).parent.mkdir(parents=True, exist_ok=True)
    victim.replace(name, victim.sentinel / "ptmx")
    assert '"fds":[0,1,2]' in victim.seen("tty", flags=("-t",))


@cve("CVE-2017-5226")
def test_cve_2017_5226_nothing_can_be_typed_into_the_callers_terminal(victim: Victim) -> None:
    """TIOCSTI needs the terminal as its controlling one: without -t there is none."""
    out = victim.seen("tty")
    assert '"controlling":0' in out
    number = {"x86_64": 16, "aarch64": 29, "riscv64": 29}.get(os.uname().machine)
    if number is not None:
        # ioctl(0, TIOCSTI, "…") on standard input, a pipe or /dev/null: refused.
        assert int(victim.seen("syscall", str(number), "0", "0x5412", "0")) < 0


# -- the working directory ---------------------------------------------------------------------------


@cve("CVE-2024-21626")
@pytest.mark.parametrize(
    "directory",
    [*(f"/proc/self/fd/{number}" for number in (0, 3, 4, 5, 7, 8, 9, 12)), "/proc/1/cwd",
     "/proc/self/root", "/proc/self/fd/7/../../..", "/proc/thread-self/cwd"],
)  # fmt: skip
def test_cve_2024_21626_working_directory_through_proc_is_refused(
    victim: Victim, directory: str
) -> None:
    said = victim.refused("pwd", flags=("-w", directory))
    assert "working directory" in said


@cve("CVE-2024-21626")
def test_cve_2024_21626_link_to_a_descriptor_is_no_working_directory(victim: Victim) -> None:
    victim.replace("work", "/proc/self/fd/7")
    assert "working directory" in victim.refused("pwd", flags=("-w", "/work"))
    victim.replace("work", victim.sentinel)
    assert "working directory" in victim.refused("pwd", flags=("-w", "/work"))
    (victim.root / str(victim.sentinel).lstrip("/")).mkdir(parents=True)
    assert victim.seen("pwd", flags=("-w", "/work")).strip() == str(victim.sentinel)
    assert victim.seen("ls", flags=("-w", "/work")) == ""  # the one inside


# -- our own program ---------------------------------------------------------------------------------


def our_files() -> str:
    """One value for the interpreter and for the package."""
    hashing = hashlib.sha256(Path(os.path.realpath(sys.executable)).read_bytes())
    for path in sorted(Path(package.__file__).parent.rglob("*.py")):
        hashing.update(path.read_bytes())
    return hashing.hexdigest()


@cve("CVE-2019-5736")
def test_cve_2019_5736_our_program_cannot_be_executed_or_overwritten(victim: Victim) -> None:
    before = our_files()
    (victim.root / "bin" / "again").write_text("#!/proc/self/exe\n")
    (victim.root / "bin" / "again").chmod(0o755)
    victim.replace("bin/link", "/proc/self/exe")
    for command in ("/proc/self/exe", "/bin/again", "/bin/link", "/proc/1/exe"):
        done = victim.run(command, "-c", "print('python')")
        assert "python" not in done.stdout
        assert done.returncode in (126, 127), (command, done.stderr)
    assert our_files() == before


@cve("CVE-2016-9962", "CVE-2026-41163")
def test_cve_2016_9962_process_that_prepares_is_out_of_reach(victim: Victim) -> None:
    """CVE-2026-41163: process 1 of the next container, seen from a pid namespace above it, would be
    ours until its exec; here only what the container itself started is visible."""
    told = json.loads(victim.seen("probe"))
    assert told["processes"] == [1]
    assert told["dumpable"] == 1  # the command's own; ours was not
    for link in ("exe", "cwd", "root"):
        target = victim.seen("readlink", f"/proc/1/{link}").strip()
        assert target in ("/bin/testbox", "/bin/readlink", "/")


@cve("CVE-2019-14271")
def test_cve_2019_14271_planted_name_service_is_not_loaded(victim: Victim) -> None:
    """Users are looked up by our own parser: the image's libnss is never mapped by us."""
    (victim.root / "etc" / "nsswitch.conf").write_text("passwd: evil\ngroup: evil\n")
    for directory in ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu"):
        (victim.root / directory).mkdir(parents=True, exist_ok=True)
        (victim.root / directory / "libnss_evil.so.2").write_text("not a library")
    assert victim.seen("id", flags=("-u", "root")) == "0:0\n"
    assert "no such user" in victim.refused("id", flags=("-u", "somebody"))


@cve("CVE-2026-47262", "CVE-2024-9676")
def test_cve_2026_47262_passwd_of_the_image_leads_to_nothing_of_the_host(victim: Victim) -> None:
    secret = victim.sentinel / "passwd"
    victim.replace("etc/passwd", f"../../../../../..{secret}")
    assert "no such user" in victim.refused("id", flags=("-u", "somebody"))
    victim.replace("etc/passwd", "/dev/zero")
    assert "is not a regular file" in victim.refused("id", flags=("-u", "root"))
    (victim.root / "etc" / "passwd").unlink()
    os.mkfifo(victim.root / "etc" / "passwd")
    assert "is not a regular file" in victim.refused("id", flags=("-u", "root"))


# -- races -------------------------------------------------------------------------------------------


@cve("CVE-2021-30465", "CVE-2024-45310")
def test_cve_2021_30465_swapped_target_never_leads_outside(victim: Victim) -> None:
    """A directory and a link to the host change places while mounts, and directories for them, are made."""
    shared = victim.root / "shared"
    (shared / "place").mkdir(parents=True)
    (shared / "trap").symlink_to(victim.sentinel)
    source = victim.sentinel.parent / "source"
    source.mkdir()
    (source / "mine").touch()
    with swapping(shared / "place", shared / "trap"):
        for _ in range(25):
            done = victim.run("mounts", flags=("-v", f"{source}:/shared/place/a/b"))
            if done.returncode:
                assert done.returncode == 125, done.stderr
                continue
            targets = [entry["target"] for entry in json.loads(done.stdout)["mounts"]]
            ours = [target for target in targets if target.endswith("/a/b")]
            inside = ("/shared/place/a/b", "/shared/trap/a/b", f"{victim.sentinel}/a/b")
            assert len(ours) == 1
            assert ours[0] in inside
    assert os.listdir(source) == ["mine"]


@cve("CVE-2025-31133")
def test_cve_2025_31133_swapped_null_device_masks_nothing_else(victim: Victim) -> None:
    """The image's /dev/null is a link half of the time: what masks is the host's all the time."""
    devices = victim.root / "dev"
    devices.mkdir(exist_ok=True)
    (devices / "null").write_text("mine")
    (devices / "trap").symlink_to(victim.sentinel / "null")
    with swapping(devices / "null", devices / "trap"):
        for _ in range(15):
            told = json.loads(victim.seen("stat", "/proc/keys"))
            assert (told["type"], told["rdev"]) == ("character", [1, 3])


@cve("CVE-2024-21626")
def test_cve_2024_21626_swapped_working_directory_stays_inside(victim: Victim) -> None:
    (victim.root / "work").mkdir()
    (victim.root / "trap").symlink_to("/proc/self/fd/7")
    with swapping(victim.root / "work", victim.root / "trap"):
        for _ in range(25):
            done = victim.run("pwd", flags=("-w", "/work"))
            assert (done.returncode, done.stdout) in ((0, "/work\n"), (0, "/trap\n"), (125, ""))


# -- the same through the door of the runtime --------------------------------------------------------


@pytest.fixture
def outside(oci: Runtime) -> Iterator[Path]:
    """A directory of the host that a bundle's root file system points at; it stays as it is."""
    outside = oci.directory / "sentinel"
    outside.mkdir()
    for name in ("ptmx", "console", "null", "file"):
        (outside / name).write_text("precious")
    before = trees.digest(outside)
    yield outside
    assert trees.digest(outside) == before


def link(bundle: Path, name: str, target: Path | str) -> Path:
    """Make a directory of the bundle's root a link."""
    (bundle / "rootfs" / name).rmdir()
    (bundle / "rootfs" / name).symlink_to(target)
    return bundle


@cve("CVE-2019-16884", "CVE-2019-19921", "CVE-2023-28642")
@pytest.mark.parametrize("target", ["inside", "outside"])
def test_cve_2019_19921_bundle_whose_proc_is_a_link(
    oci: Runtime, outside: Path, target: str
) -> None:
    bundle = link(oci.bundle("true"), "proc", "/tmp" if target == "inside" else outside)
    assert "must be mounted on an ordinary directory" in oci.refused("run", "-b", bundle, "box")
    assert os.listdir(oci.root) == []


@cve("CVE-2026-41579", "CVE-2026-47766", "CVE-2025-54867")
@pytest.mark.parametrize("mounted", [True, False])
def test_cve_2026_41579_bundle_whose_dev_is_a_link(
    oci: Runtime, outside: Path, mounted: bool
) -> None:
    """With a tmpfs that is to lie on it, and without one: then the links and devices would go there."""
    bundle = link(oci.bundle("true", root={"path": "rootfs"}), "dev", outside)
    if not mounted:
        config = json.loads((bundle / "config.json").read_text())
        config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
        (bundle / "config.json").write_text(json.dumps(config))
    done = oci("run", "--bundle", bundle, "box")
    assert done.returncode in (0, 1)
    assert sorted(os.listdir(outside)) == ["console", "file", "null", "ptmx"]


@cve("CVE-2025-52565")
def test_cve_2025_52565_console_of_a_bundle_is_a_link(oci: Runtime, outside: Path) -> None:
    bundle = oci.bundle("stat", "/dev/console", process={"terminal": True})
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"] = [
        m for m in config["mounts"] if m["destination"] not in ("/dev", "/dev/shm", "/dev/mqueue")
    ]
    config["root"]["readonly"] = False
    (bundle / "config.json").write_text(json.dumps(config))
    (bundle / "rootfs" / "dev" / "pts").mkdir()
    (bundle / "rootfs" / "dev" / "console").symlink_to(outside / "console")
    console = oci.console()
    done = oci("create", "--bundle", bundle, "--console-socket", console.path, "box")
    if done.returncode == 0:
        os.close(console.master())
    else:
        assert done.stderr.startswith("rootless-oci: ")


@cve("CVE-2025-52881", "CVE-2025-62596")
def test_cve_2025_52881_writes_to_proc_reach_the_real_one(oci: Runtime, outside: Path) -> None:
    """Neither the /proc of the image nor a file system that covers it gets a sysctl or a score."""
    fake = {f"proc/{name}": "fake" for name in
            ("sys/net/ipv4/ip_default_ttl", "self/oom_score_adj", "self/attr/exec")}  # fmt: skip
    kinds = [{"type": kind} for kind in ("user", "mount", "pid", "ipc", "uts", "network")]
    linux = {"namespaces": kinds, "sysctl": {"net.ipv4.ip_default_ttl": "77"}}
    bundle = oci.bundle(
        "cat", "/proc/sys/net/ipv4/ip_default_ttl", files=fake, linux=linux,
        process={"oomScoreAdj": 321},
    )  # fmt: skip
    assert oci.ok("run", "--bundle", bundle, "box") == "77\n"
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/proc"]
    config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
    (bundle / "config.json").write_text(json.dumps(config))
    done = oci("run", "--bundle", bundle, "box")
    assert done.stdout in ("", "fake")
    for name in fake:
        assert (bundle / "rootfs" / name).read_text() == "fake"


@cve("CVE-2025-52881")
@pytest.mark.parametrize("target", ["/proc/self/attr", "/proc/sys", "/proc/thread-self/attr"])
def test_cve_2025_52881_nothing_is_mounted_below_proc(oci: Runtime, target: str) -> None:
    cover = {"destination": target, "type": "tmpfs", "source": "tmpfs"}
    said = oci.refused("run", "--bundle", oci.bundle("true", mounts=[cover]), "box")
    assert "inside /proc" in said


@cve("CVE-2024-21626")
@pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 64])
def test_cve_2024_21626_working_directory_of_a_bundle(oci: Runtime, number: int) -> None:
    bundle = oci.bundle("pwd", process={"cwd": f"/proc/self/fd/{number}"})
    assert "working directory" in oci.refused("run", "--bundle", bundle, "box")


@cve("CVE-2019-5736")
@pytest.mark.parametrize("command", ["/proc/self/exe", "/bin/again", "/proc/1/exe"])
def test_cve_2019_5736_exec_of_our_program(oci: Runtime, command: str) -> None:
    before = our_files()
    bundle = oci.bundle("sleep", "1000", files={"bin/again": "#!/proc/self/exe\n"})
    (bundle / "rootfs" / "bin" / "again").chmod(0o755)
    oci.ok("create", "--bundle", bundle, "box")
    oci.ok("start", "box")
    done = oci("exec", "box", command, "-c", "print('python')")
    assert "python" not in done.stdout
    assert our_files() == before


@cve("CVE-2016-9962", "CVE-2026-41163")
def test_cve_2016_9962_processes_that_enter_show_nothing(oci: Runtime) -> None:
    """Bar 14: a hundred times our program enters; a process that looks all the time sees the commands."""
    with oci.start(
        "run", "--bundle", oci.bundle("spy"), "box", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as spying:
        assert spying.stdout is not None
        assert spying.stdout.readline() == "ready\n"
        for _ in range(100):
            oci.ok("exec", "box", "true")
        told, _ = spying.communicate(timeout=60)
    seen = set(json.loads(told))
    assert "exe /bin/testbox" in seen  # it looks often enough to see the commands
    links = {line for line in seen if not line.startswith("fd ")}
    assert links <= {"exe /bin/testbox", "cwd /", "root /"}
    ours = (str(oci.root), str(Path(package.__file__).parent), "python")
    assert not any(name in line for name in ours for line in seen)
    assert "fd /" not in seen


@cve("CVE-2022-29162", "CVE-2022-24769", "CVE-2022-27649", "CVE-2022-27650", "CVE-2022-27651")
@SUBIDS
@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("add", [(), ("CAP_NET_RAW",)])
def test_cve_2022_27651_nothing_is_inheritable(
    oci: Runtime, victim: Victim, user: int, add: tuple[str, ...]
) -> None:
    flags = ("-u", str(user), *(f"--cap-add={name}" for name in add))
    first = json.loads(victim.seen("probe", flags=flags))["capabilities"]
    oci.running("box", linux=SUBORDINATE_IDS)
    words = ("exec", "-u", str(user), *(f"--cap={name}" for name in add), "box", "probe")
    second = oci.json(*words)["capabilities"]
    for sets in (first, second):
        assert (sets["inheritable"], sets["ambient"]) == (0, 0)
        assert sets["bounding"] & capability.mask(add) == capability.mask(add)
        if user:
            assert (sets["effective"], sets["permitted"]) == (0, 0)


# -- what is of the host -----------------------------------------------------------------------------


@cve("CVE-2023-25809")
@pytest.mark.parametrize("network", ["none", "host"])
def test_cve_2023_25809_cgroups_cannot_be_written(victim: Victim, network: str) -> None:
    flags = (f"--network={network}",)
    for command in (("mkdir", "/sys/fs/cgroup/x"), ("write", "/sys/fs/cgroup/cgroup.procs", "1")):
        done = victim.run(*command, flags=flags)
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr or "No such file" in done.stderr


@cve("CVE-2023-25809")
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("option", ["ro", "rw"])
def test_cve_2023_25809_cgroups_of_a_bundle(oci: Runtime, own: bool, option: str) -> None:
    """With or without a cgroup namespace of its own: nothing above the container's cgroup."""
    kinds = ["user", "mount", "pid", "ipc", "uts", *(["cgroup"] if own else [])]
    bundle = oci.bundle("mkdir", "/sys/fs/cgroup/x")
    config = json.loads((bundle / "config.json").read_text())
    config["linux"]["namespaces"] = [{"type": kind} for kind in kinds]
    config["mounts"][-1]["options"] = ["nosuid", "noexec", "nodev", option]
    (bundle / "config.json").write_text(json.dumps(config))
    done = oci("run", "--bundle", bundle, "box")
    assert done.returncode == 1, done.stdout
    assert any(word in done.stderr for word in ("Read-only", "denied", "rootless-oci: "))


@cve("GHSA-6fw5-f8r9-fgfm", "GHSA-jq35-85cj-fj4p")
def test_ghsa_6fw5_host_telemetry_is_hidden(victim: Victim) -> None:
    for path in ("/proc/interrupts", "/proc/timer_list", "/proc/keys"):
        assert victim.seen("cat", path) == ""
    for path in ("/sys/devices/virtual/powercap", "/sys/firmware",
                 "/sys/devices/system/cpu/cpu0/thermal_throttle"):  # fmt: skip
        done = victim.run("ls", path)
        assert done.stdout == ""
        assert done.returncode == 0 or "No such file" in done.stderr


@cve("CVE-2026-31431")
@pytest.mark.needs("libseccomp")
@pytest.mark.parametrize("family", [38, 40])
def test_cve_2026_31431_address_families_of_the_kernel_are_closed(
    victim: Victim, family: int
) -> None:
    done = victim.run("socket", str(family))
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr or "not supported" in done.stderr


@cve("CVE-2020-15257")
def test_cve_2020_15257_no_abstract_socket_of_ours(victim: Victim, oci: Runtime) -> None:
    """With the host's network they would be the container's to connect to."""

    def names() -> set[str]:
        lines = Path("/proc/net/unix").read_text().splitlines()
        return {line.split()[7] for line in lines if len(line.split()) > 7}

    before = names()
    oci.running("box", process={"terminal": False})
    seen = victim.seen("cat", "/proc/net/unix", flags=("--network=host",))
    new = {line.split()[7] for line in seen.splitlines() if len(line.split()) > 7} - before
    assert not any(name.startswith("@") and "rootless" in name for name in new)


@cve("CVE-2024-25621", "CVE-2021-41091")
def test_cve_2024_25621_nobody_else_gets_into_the_store(rootless: CommandLine, image: str) -> None:
    before = os.umask(0)
    try:
        rootless.ok("run", "--name", "box", image, "true")
    finally:
        os.umask(before)
    for path in (rootless.paths.data, rootless.paths.run):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path


@cve("CVE-2025-65105", "CVE-2025-64750")
@pytest.mark.parametrize("label", [{"apparmorProfile": "nonsense"}, {"selinuxLabel": "a:b:c:s0"}])
def test_cve_2025_65105_label_that_cannot_be_applied_is_an_error(
    oci: Runtime, victim: Victim, label: dict[str, str]
) -> None:
    oci.refused("run", "--bundle", oci.bundle("true", process=label), "box")
    if "apparmorProfile" in label:
        victim.refused("true", flags=("--security-opt", "apparmor=nonsense"))
    oci.running("box")
    flag = {"apparmorProfile": "--apparmor", "selinuxLabel": "--process-label"}
    ((name, value),) = label.items()
    oci.refused("exec", flag[name], value, "box", "true")


@cve("CVE-2026-48785", "CVE-2026-47215")
@pytest.mark.parametrize("target", ["/processes", "/proc2/x", "/sysx", "/development", "/etc2"])
def test_cve_2026_48785_paths_are_compared_by_component(victim: Victim, target: str) -> None:
    flags = ("-v", f"{victim.sentinel}:{target}:ro")
    assert victim.seen("cat", f"{target}/file", flags=flags) == "precious file"


# -- who it is ---------------------------------------------------------------------------------------

USERS: list[tuple[str, str | None]] = [
    ("1", "1:1"), ("1:2", "1:2"), ("1:", None), (":1", None), ("+1", None), ("-1", None),
    ("4294967295", None), ("4294967296", None), ("2147483648", None), ("99999999999", None),
    ("18446744073709551616", None), ("0x1", None), ("１", None), (" 1", None), ("1 ", None),
    ("1:4294967296", None), ("1:-1", None), ("1.0", None), ("1e3", None), ("root:", None),
    ("nobody", "65534:65534"), ("65535", "65535:0"), ("01", None), ("1:2:3", None), ("٣", None),
]  # fmt: skip


@cve("CVE-2026-30892", "CVE-2024-40635")
@SUBIDS
@pytest.mark.parametrize(("user", "expected"), USERS)
def test_cve_2026_30892_user_is_that_one_or_none(
    victim: Victim, user: str, expected: str | None
) -> None:
    """Never root because nobody could read it."""
    done = victim.run("id", flags=(f"--user={user}",))
    if expected is not None:
        assert done.stdout == f"{expected}\n", done.stderr
        return
    assert done.stdout == "" or not done.stdout.startswith("0:"), done.stdout
    assert done.returncode in (0, 125)
    if done.returncode:
        assert done.stderr.startswith("rootless: ")


@cve("CVE-2024-40635")
@pytest.mark.parametrize("user", ["2147483648", "4294967295", "4294967296", "99999999999"])
def test_cve_2024_40635_number_of_an_image_is_not_wrapped(
    rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path, user: str
) -> None:
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", rootfs(), "-cf", archive, "."], check=True)
    done = rootless("import", f"--change=USER {user}", archive, "evil")
    if done.returncode == 0:
        done = rootless("run", "--rm", "evil", "id")
    assert (done.returncode, done.stdout) == (125, "")
    assert user in done.stderr


@cve("CVE-2022-2989", "CVE-2022-2990", "CVE-2022-36109", "CVE-2023-25173")
@SUBIDS
@pytest.mark.parametrize("user", ["1000", "1000:1000", "user", "4000:5000", "0", "root:staff"])
def test_cve_2022_36109_primary_group_is_among_the_groups(victim: Victim, user: str) -> None:
    """Else a file that refuses its group could be opened by leaving the group."""
    seen = json.loads(victim.seen("probe", flags=("-u", user)))
    assert seen["gid"][0] in seen["groups"]


@cve("CVE-2026-47262", "CVE-2024-9676")
@pytest.mark.parametrize("kind", ["huge", "zeros", "lines", "directory", "kmsg"])
def test_cve_2026_47262_passwd_that_is_no_passwd(victim: Victim, kind: str) -> None:
    path = victim.root / "etc" / "passwd"
    path.unlink()
    if kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    elif kind == "zeros":
        path.write_bytes(bytes(1 << 20))
    elif kind == "lines":
        path.write_text("".join(f"u{n}:x:{n}:{n}::/:/bin/sh\n" for n in range(200_000)))
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/proc/kmsg")
    said = victim.refused("id", flags=("-u", "somebody"))
    assert len(said) < 500


# -- what the host runs ------------------------------------------------------------------------------

PROGRAMS = ("xz", "unxz", "gzip", "gunzip", "zstd", "unpigz", "tar", "sh", "ps", "nsenter", "mount",
            "newuidmap", "fuse-overlayfs", "python3", "ls")  # fmt: skip


@cve("CVE-2026-41567")
@pytest.mark.parametrize("compression", ["gzip", "xz", "bzip2"])
def test_cve_2026_41567_decompressor_of_the_image_is_not_run(
    rootless: CommandLine, victim: Victim, tmp_path: Path, compression: str
) -> None:
    marker = tmp_path / "pwned"
    for name in PROGRAMS:
        victim.plant(f"usr/bin/{name}", marker)
        victim.plant(f"usr/local/sbin/{name}", marker)
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", f"--{compression}", "-C", victim.root, "-cf", archive, "."], check=True)
    for _ in range(2):
        rootless.ok("import", archive, "evil")
    assert rootless.ok("run", "--rm", "evil", "/bin/echo", "fine") == "fine\n"
    rootless.ok("rmi", "evil")
    assert not marker.exists()


@cve("CVE-2022-1227")
def test_cve_2022_1227_programs_of_the_image_do_not_list_its_processes(oci: Runtime) -> None:
    marker = oci.directory / "pwned"
    programs = {f"{folder}/{name}": f"#!/bin/sh\ntouch {marker}\n"
                for folder in ("bin", "usr/bin") for name in ("ps", "nsenter")}  # fmt: skip
    bundle = oci.bundle("sleep", "1000", files=programs)
    for name in programs:
        (bundle / "rootfs" / name).chmod(0o755)
    oci.ok("create", "--bundle", bundle, "box")
    oci.ok("start", "box")
    assert "sleep" in oci.ok("ps", "box")
    assert not marker.exists()


@cve("CVE-2019-14271")
def test_cve_2019_14271_modules_of_the_image_are_not_imported(
    oci: Runtime, victim: Victim, tmp_path: Path
) -> None:
    """Our interpreter is inside for a moment: whatever it would import there is the image's."""
    marker = tmp_path / "pwned"
    spoiled = f"open({str(marker)!r}, 'w'); open('/tmp/pwned', 'w')"
    library = Path(os.__file__).parent
    names = ("encodings/__init__.py", "codecs.py", "os.py", "pwd.py", "grp.py", "ctypes/__init__.py",
             "encodings/idna.py", "encodings/latin_1.py", "traceback.py", "warnings.py",
             "linecache.py", "re/__init__.py", "json/__init__.py", "sitecustomize.py")  # fmt: skip
    for root in (victim.root, (bundle := oci.bundle("true")) / "rootfs"):
        for folder in (library, Path(package.__file__).parent):
            for name in names:
                path = root / str(folder).lstrip("/") / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(spoiled)
    victim.seen("true", flags=("-u", "root", "-w", "/tmp"))
    victim.refused("true", flags=("-u", "unknown"))
    victim.run("nothing")
    oci.ok("run", "--bundle", bundle, "box")
    assert not marker.exists()
    assert not (victim.root / "tmp" / "pwned").exists()
    assert not (bundle / "rootfs" / "tmp" / "pwned").exists()


@cve("CVE-2026-53488")
def test_cve_2026_53488_labels_of_an_image_steer_nothing(
    rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path
) -> None:
    """They are words: no name an author gives them changes what the container may do."""
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", rootfs(), "-cf", archive, "."], check=True)
    keys = ("rootless.privileged", "io.rootless.privileged", "run.oci.keep_original_groups",
            "io.podman.annotations.privileged", "io.podman.annotations.label",
            "org.opencontainers.runtime.hooks")  # fmt: skip
    labels = [f"--change=LABEL {key}=TRUE" for key in keys]
    rootless.ok("import", *labels, archive, "evil")
    rootless.ok("import", archive, "plain")
    views = [rootless.json("run", "--rm", name, "probe") for name in ("evil", "plain")]
    for name in ("capabilities", "seccomp", "no_new_privs", "uid_map", "groups"):
        assert views[0][name] == views[1][name]
    targets = [[entry["target"] for entry in view["mounts"]] for view in views]
    assert targets[0] == targets[1]


@cve("crun 1.28")
@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", "/etc", "a b", "x" * 5000, "é", "-"]
)
def test_names_and_ids_are_no_paths(rootless: CommandLine, victim: Victim, name: str) -> None:
    before = sorted(os.listdir(rootless.paths.data)) if os.path.exists(rootless.paths.data) else []
    done = victim.run("true", flags=(f"--name={name}",))
    if name == "":
        return
    assert done.returncode == 125, done.stdout
    assert done.stderr.startswith("rootless: ")
    assert not os.path.exists(Path(rootless.paths.data).parent / "x")
    del before
