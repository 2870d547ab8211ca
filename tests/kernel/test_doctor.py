# SPDX-License-Identifier: Apache-2.0
"""The doctor on this very machine, and its words for machines that a directory of files describes."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from rootless.engine.doctor import cgroups, ids, namespaces, network, storage
from rootless.engine.doctor.examination import PROBES, examine, judge
from rootless.engine.doctor.probe import FAIL, OK, SKIP, WARN, Host, Probe, Result
from tests.lib.command_line import program


@pytest.fixture
def host(tmp_path, paths):
    """A host whose readable files are those a test writes; what is tried is tried for real."""
    return Host(paths, root=str(tmp_path / "host"))


def write(host: Host, path: str, text: str) -> None:
    target = Path(host.root + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


# -- this machine ----------------------------------------------------------------------------------


@pytest.mark.needs("userns")
def test_every_probe_answers_and_leaves_nothing_behind(paths, tmp_path, clean_host):
    Path(paths.data).mkdir(mode=0o700)
    results = list(examine(Host(paths)))
    assert [result.name for result in results] == [probe.name for probe in PROBES]
    assert not [result for result in results if "probe itself failed" in result.found]
    assert judge(results).runs
    assert os.listdir(paths.data) == []


def test_probes_tell_what_they_are_for():
    names = [probe.name for probe in PROBES]
    assert len(set(names)) == len(names)
    for probe in PROBES:
        assert probe.purpose
        assert probe.topic
        assert type(probe).__doc__


@pytest.mark.needs("userns", "overlay")
def test_overlay_and_whiteouts_work_here(paths):
    found = {result.name: result for result in examine(Host(paths))}
    assert found["overlay"].status == OK
    assert found["whiteouts"].status == OK


@pytest.mark.needs("userns", "subids")
def test_subordinate_ids_work_here(paths):
    found = {result.name: result for result in examine(Host(paths))}
    assert found["newuidmap, newgidmap"].status == OK


@pytest.mark.needs("userns")
def test_exit_code_and_formats(rootless):
    done = rootless("doctor")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("containers run on this machine")
    found = rootless.json("doctor", "--format", "json")
    assert found["Ok"] is True
    assert {probe["Status"] for probe in found["Probes"]} <= {OK, WARN, FAIL, SKIP}
    assert rootless.ok("doctor", "--format", "{{len .Probes}}") == f"{len(PROBES)}\n"


def test_store_that_cannot_be_written_ends_in_1(rootless):
    done = rootless("--root", "/proc/1/nothing", "doctor")
    assert done.returncode == 1
    assert "fail  store" in done.stdout
    assert done.stdout.endswith("no container runs on this machine: store\n")


@pytest.mark.needs("userns")
def test_machine_that_allows_no_user_namespace_is_explained(rootless):
    """The limit counts for what is below: here, inside a user namespace that is made for it."""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", *program(), "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env=rootless.environ,
    )
    lines = dict(re.findall(r"^(?:ok|warn|fail|skip) +(.+?)  +(.*)$", done.stdout, re.MULTILINE))
    assert lines["user namespaces"] == "the sysctl user.max_user_namespaces is 0"
    assert lines["overlay"] == "not tried without user namespaces"
    assert "sysctl -w 'user.max_user_namespaces=15000'" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC])
def test_errno_of_a_child_is_told(number):
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    assert namespaces.attempt_in_child(fail) == number
    assert namespaces.attempt_in_child(lambda: None) == 0


# -- user namespaces refused, by what the machine's files tell ----------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "number", "found", "mend"),
    [
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            errno.ENOSPC,
            "user.max_user_namespaces is 0",
            "sysctl -w 'user.max_user_namespaces=15000'",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            errno.EPERM,
            "kernel.unprivileged_userns_clone is 0",
            "sysctl -w 'kernel.unprivileged_userns_clone=1'",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            errno.EACCES,
            "AppArmor",
            "apparmor_parser -r /etc/apparmor.d/rootless",
        ),
        (
            "/proc/self/status",
            "Name:\tx\nSeccomp:\t2\n",
            errno.EPERM,
            "seccomp filter",
            "--security-opt seccomp=unconfined",
        ),
        ("/x", "", errno.ENOSYS, "built without", "CONFIG_USER_NS"),
        ("/x", "", errno.ENOSPC, "too many exist", "user.max_user_namespaces"),
        ("/x", "", errno.EPERM, "operation not permitted", "dmesg"),
    ],
)
def test_refusal_is_explained(host, path, text, number, found, mend):
    write(host, path, text)
    result = namespaces.UserNamespaces().explain_refusal(host, number)
    assert result.status == FAIL
    assert result.essential
    assert found in result.found
    assert mend in "\n".join(result.mend)


def test_apparmor_profile_names_the_real_interpreter(host):
    profile = "\n".join(namespaces.apparmor_profile(host))
    assert f"profile rootless {host.interpreter} flags=(unconfined) {{" in profile
    assert os.path.realpath(host.interpreter) == host.interpreter


# -- subordinate ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        ("{user}:100000:65536", OK, "100000-165535 (65536 ids)"),
        ("{uid}:100000:65536", OK, "100000-165535"),
        ("{user}:100000:65536\n{user}:300000:10\n", OK, "300000-300009 (65546 ids)"),
        ("# comment\nother:100000:65536", WARN, "no entry for"),
        ("", WARN, "no entry for"),
        ("{user}:100000:1000", WARN, "only 1000 ids"),
        ("{user}:100000:65536\nother:165000:65536", WARN, "shared with other"),
    ],
)
def test_subuid_file_is_judged(host, text, status, found):
    write(host, "/etc/subuid", text.format(user=host.user, uid=host.uid))
    result = ids.SubordinateUids().examine(host)
    assert result.status == status
    assert found in result.found
    assert bool(result.mend) == (status != OK)


def test_subuid_line_to_add_takes_a_free_range(host):
    write(host, "/etc/subuid", "a:100000:65536\nb:165536:65536\nc:300000:65536\n")
    (line,) = ids.SubordinateUids().examine(host).mend
    assert f"usermod --add-subuids 231072-296607 {host.user}" in line


# -- storage, cgroups, network -------------------------------------------------------------------------

ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("line", "status", "found"),
    [
        ("", OK, "ext4 at /"),
        ("2 1 0:9 / {store} rw - nfs4 server:/home rw\n", WARN, "nfs4"),
        ("2 1 0:9 / {store} rw - lustre mds:/x rw\n", WARN, "lustre"),
        ("2 1 0:9 / {store} rw - tmpfs tmpfs rw\n", WARN, "tmpfs"),
        ("2 1 0:9 / {store} rw - overlay overlay rw\n", WARN, "overlay"),
        ("2 1 0:9 / {store} rw - xfs /dev/sdb rw\n", OK, "xfs"),
        ("2 1 0:9 / {store}-not rw - nfs4 server:/home rw\n", OK, "ext4 at /"),
    ],
)
def test_file_system_of_the_store_is_judged(host, line, status, found):
    Path(host.paths.data).mkdir()
    store = os.path.realpath(host.paths.data)
    write(host, "/proc/self/mountinfo", ROOT + line.format(store=store))
    result = storage.FileSystem().examine(host)
    assert result.status == status
    assert found in result.found


def test_mount_point_with_a_space_is_found(host, tmp_path):
    target = tmp_path / "a b"
    target.mkdir()
    spelled = str(tmp_path.resolve() / "a b").replace(" ", r"\040")
    write(host, "/proc/self/mountinfo", ROOT + f"2 1 0:9 / {spelled} rw - xfs /dev/sdb rw\n")
    assert storage.file_system_of(host, str(target))[0] == "xfs"


def test_store_that_others_can_read_is_a_warning(host):
    Path(host.paths.data).mkdir()
    os.chmod(host.paths.data, 0o755)
    result = storage.Store().examine(host)
    assert result.status == WARN
    assert result.mend == (f"chmod 700 {host.paths.data}",)


@pytest.mark.parametrize(
    ("mounts", "status", "found"),
    [
        ("2 1 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", OK, "version 2"),
        (
            "2 1 0:9 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
            "3 2 0:9 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            WARN,
            "hybrid",
        ),
        ("2 1 0:9 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", WARN, "version 1"),
        ("", WARN, "nothing is mounted"),
    ],
)
def test_cgroup_version_is_told(host, mounts, status, found):
    write(host, "/proc/self/mountinfo", ROOT + mounts)
    result = cgroups.CgroupVersion().examine(host)
    assert result.status == status
    assert found in result.found


@pytest.mark.parametrize(("text", "status"), [("0\t2147483647", OK), ("1\t0", WARN)])
def test_ping_group_range_is_judged(host, text, status):
    write(host, "/proc/sys/net/ipv4/ping_group_range", text)
    assert network.Ping().examine(host).status == status


# -- the machinery -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "line"),
    [
        ("ID=debian", "apt-get install uidmap"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"', "apt-get install uidmap"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "dnf install shadow-utils"),
        ("ID=alpine", "apk add shadow-uidmap"),
        ("ID=plan9", "install the package uidmap"),
    ],
)
def test_package_is_installed_in_the_words_of_the_distribution(host, release, line):
    write(host, "/etc/os-release", release)
    assert host.install("uidmap").removeprefix("sudo ") == line


class Broken(Probe):
    """A probe with a fault of its own."""

    name = "broken"
    topic = "test"
    purpose = "this test"
    essential = True

    def examine(self, host: Host) -> Result:
        raise ValueError("odd")


def test_probe_that_breaks_is_a_failed_one(host):
    (result,) = examine(host, [Broken()])
    assert (result.status, result.found) == (FAIL, "the probe itself failed: ValueError: odd")
    verdict = judge([result])
    assert not verdict.runs
    assert "broken" in verdict.summary


class Dependent(Broken):
    """A probe that makes no sense without another."""

    name = "dependent"
    requires = ("broken",)


def test_probe_is_not_tried_without_what_it_requires(host):
    _, result = examine(host, [Broken(), Dependent()])
    assert (result.status, result.found) == (SKIP, "not tried without broken")
    assert judge([result]).runs


def test_requirements_are_probed_before():
    for index, probe in enumerate(PROBES):
        assert {*probe.requires} <= {earlier.name for earlier in PROBES[:index]}


def test_scratch_directory_is_private_and_removed(host):
    Path(host.paths.data).mkdir()
    with storage.scratch(host) as directory:
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        assert directory.startswith(host.paths.data)
    assert not os.path.exists(directory)


def test_nearest_directory_exists(tmp_path):
    assert storage.nearest_directory(str(tmp_path / "a" / "b")) == str(tmp_path)
