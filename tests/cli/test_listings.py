# SPDX-License-Identifier: Apache-2.0
"""ps, inspect, rm, images and rmi over containers and images that are in the store."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time

import pytest

from rootless.oci import document
from rootless.runtime import state
from rootless.storage import store

IMAGE_ID = "sha256:" + "5" * 64


@pytest.fixture
def add(paths):
    """A function that puts a container into the store as `run` leaves it; returns its id."""
    store.open_store(paths)

    def put(name: str, **changes: object) -> str:
        container_id = (name.encode().hex() + "0" * 64)[:64]
        record = {
            "id": container_id,
            "name": name,
            "created": 1_700_000_000.25,
            "image": "debian:12",
            "image_id": IMAGE_ID,
            "command": ["sleep", "100"],
            "id_map": "single",
            "driver": "overlay",
            "labels": {},
            "annotations": {},
            "auto_remove": False,
            "tty": False,
            "exit_code": None,
            "started": None,
            "finished": None,
            "pid": None,
            **changes,
        }
        directory = paths.container(container_id)
        os.makedirs(directory + "/upper")
        with open(paths.container_record(container_id), "wb") as file:
            file.write(document.dumps(record))
        os.symlink(container_id, paths.name(name))
        return container_id

    return put


@pytest.fixture
def running(add, paths):
    """The name of a container whose first process is a real one, of ours."""
    container_id = add("alive", created=time.time() - 7200, started=time.time() - 7200)
    child = subprocess.Popen(["sleep", "1000"])
    state.save(paths.state_directory(container_id), container_id, child.pid, "", {})
    yield "alive"
    child.kill()
    child.wait()


def ended(code: int) -> dict[str, object]:
    now = time.time()
    return {"exit_code": code, "started": now - 400, "finished": now - 300, "created": now - 400}


# -- ps --------------------------------------------------------------------------------------------


def test_ps_of_an_empty_store_is_the_heading(rootless):
    assert rootless.ok("ps").split() == (
        ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    )
    assert rootless.ok("ps", "--format", "json") == ""


def test_ps_shows_what_runs(rootless, add, running):
    add("dead", **ended(0))
    lines = rootless.ok("ps").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith('616c69766500   debian:12   "sleep 100"   2 hours ago   Up 2 hours')
    assert lines[1].endswith("alive")


def test_ps_all_shows_states_and_exit_codes(rootless, add, running):
    add("fresh")
    add("dead", **ended(3))
    out = rootless.ok("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}")
    assert out.splitlines() == [
        "dead exited Exited (3) 5 minutes ago",
        "alive running Up 2 hours",
        "fresh created Created",
    ]


def test_ps_of_a_container_whose_end_nobody_saw(rootless, add):
    add("lost", started=1_700_000_001.0)
    out = rootless.ok("ps", "-a", "--format", "{{.Status}}|{{.ExitCode}}")
    assert out == "Exited (255)|255\n"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["-a"], "new middle old"),
        (["-l"], "new"),
        (["-n", "2"], "new middle"),
        (["-a", "-f", "before=new"], "middle old"),
        (["-a", "-f", "since=old", "--filter", "name=m"], "middle"),
        (["-f", "status=created"], "new middle old"),
        (["-f", "name=new"], ""),
        (["-a", "-f", "label=a=b"], "old"),
    ],
)
def test_ps_chooses(rootless, add, words, names):
    add("old", created=1.0, labels={"a": "b"})
    add("middle", created=2.0)
    add("new", created=3.0)
    assert rootless.ok("ps", "--format", "{{.Names}}", *words).split() == names.split()


def test_ps_quiet_and_untruncated_ids(rootless, add):
    container_id = add("one", command=["sh", "-c", 'echo "a long command line"'])
    assert rootless.ok("ps", "-aq") == container_id[:12] + "\n"
    assert rootless.ok("container", "ls", "-aq", "--no-trunc") == container_id + "\n"
    assert rootless.ok("ps", "-a", "--format", "{{.Command}}") == '"sh -c echo \\"a long …"\n'


def test_ps_json_is_an_object_a_line(rootless, add):
    add("one", labels={"b": "2", "a": "1"})
    add("two")
    rows = [json.loads(line) for line in rootless.ok("ps", "-a", "--format=json").splitlines()]
    assert {row["Names"] for row in rows} == {"one", "two"}
    assert {row["Labels"] for row in rows} == {"", "a=1,b=2"}
    assert rows[0]["CreatedAt"].startswith("2023-11-14 ")


def test_ps_size_counts_the_writable_layer(rootless, add, paths):
    container_id = add("one")
    with open(paths.container(container_id) + "/upper/file", "wb") as file:
        file.write(b"x" * 1234)
    assert rootless.ok("ps", "-as", "--format", "{{.Size}}") == "1.23kB (virtual 1.23kB)\n"


def test_ps_goes_on_past_a_damaged_record(rootless, add, paths):
    container_id = add("broken")
    add("whole")
    with open(paths.container_record(container_id), "w", encoding="ascii") as file:
        file.write("{")
    done = rootless("ps", "-a", "--format", "{{.Names}}")
    assert (done.returncode, done.stdout) == (0, "whole\n")
    assert "container.unreadable" in done.stderr


# -- inspect ---------------------------------------------------------------------------------------


def test_inspect_tells_docker_s_facts(rootless, add, running):
    (document,) = rootless.json("inspect", running)
    assert document["Name"] == "/alive"
    assert document["State"]["Running"] is True
    assert document["State"]["Pid"] > 0
    assert document["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert rootless.ok("inspect", "-f", "{{.State.Status}} {{.Id}}", "alive") == (
        "running 616c697665" + "0" * 54 + "\n"
    )


def test_inspect_times_have_nanoseconds(rootless, add):
    add("one")
    assert rootless.ok("inspect", "-f", "{{.Created}}", "one") == "2023-11-14T22:13:20.250000000Z\n"


def test_inspect_reads_the_configuration(rootless, add, paths):
    container_id = add("one")
    config = {
        "hostname": "box",
        "process": {"args": ["sleep", "100"], "env": ["A=1"], "cwd": "/x", "terminal": True},
        "root": {"readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev/shm", "type": "tmpfs", "options": ["size=65536k"]},
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "network"}],
            "resources": {"cpu": {"quota": 150000, "period": 100000}, "memory": {"limit": 1024}},
        },
    }
    with open(paths.container(container_id) + "/config.json", "wb") as file:
        file.write(document.dumps(config))
    (found,) = rootless.json("container", "inspect", "one")
    assert found["Config"]["Hostname"] == "box"
    assert found["Config"]["Env"] == ["A=1"]
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert found["HostConfig"]["NanoCpus"] == 1_500_000_000
    assert found["HostConfig"]["ShmSize"] == 64 << 20
    assert found["HostConfig"]["Binds"] == ["/srv:/data:ro"]
    assert [mount["Destination"] for mount in found["Mounts"]] == ["/data"]


def test_inspect_shows_what_is_there_and_reports_what_is_not(rootless, add):
    add("one")
    done = rootless("inspect", "nothing", "one")
    assert done.returncode == 1
    assert [found["Name"] for found in json.loads(done.stdout)] == ["/one"]
    assert "rootless: no such object: nothing\n" in done.stderr


def test_inspect_of_the_wrong_type_finds_nothing(rootless, add):
    add("one")
    done = rootless("image", "inspect", "one")
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "no such image: one" in done.stderr


# -- rm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["gone", "676f6e65" + "0" * 56, "676f6e"])
def test_rm_removes_everything_of_a_container(rootless, add, paths, spelling):
    container_id = add("gone", **ended(0))
    state.save(paths.state_directory(container_id), container_id, os.getpid(), "", {})
    os.rename(  # a state that another boot left behind
        paths.state_directory(container_id) + "/state.json",
        paths.state_directory(container_id) + "/old.json",
    )
    assert rootless.ok("rm", spelling) == spelling + "\n"
    assert not os.path.exists(paths.container(container_id))
    assert not os.path.lexists(paths.name("gone"))
    assert not os.path.exists(paths.state_directory(container_id))
    assert os.listdir(paths.tmp) == []


def test_rm_goes_on_after_a_failure(rootless, add):
    add("one")
    done = rootless("rm", "nothing", "one")
    assert (done.returncode, done.stdout) == (1, "one\n")
    assert done.stderr == "rootless: no such container: nothing\nhint: rootless ps -a\n"


def test_rm_refuses_what_runs_and_force_kills_it(rootless, running, paths):
    done = rootless("rm", running)
    assert done.returncode == 1
    assert done.stderr == (
        "rootless: cannot remove container alive: it is running\nhint: rootless rm -f alive\n"
    )
    assert rootless.ok("rm", "--force", running) == "alive\n"
    assert os.listdir(paths.containers) == []


def test_rm_force_does_not_touch_a_process_that_got_the_pid_later(rootless, add, paths):
    container_id = add("recycled", **ended(0))
    directory = paths.state_directory(container_id)
    state.save(directory, container_id, os.getpid(), "", {})
    told = document.load(directory + "/state.json")
    with open(directory + "/state.json", "wb") as file:
        file.write(document.dumps({**told, "startTime": told["startTime"] - 1}))
    rootless.ok("rm", "-f", "recycled")  # would have ended this very process


def test_rm_force_of_nothing_is_told_and_no_failure(rootless):
    done = rootless("rm", "-f", "nothing")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no such container: nothing" in done.stderr


def test_rm_of_an_ambiguous_prefix_is_refused(rootless, add):
    add("aa")
    add("ab")
    done = rootless("rm", "61")
    assert done.returncode == 1
    assert "several containers" in done.stderr
    assert len(rootless.ok("ps", "-aq").split()) == 2


def test_name_wins_over_an_id(rootless, add):
    add("aa")
    add("6161")
    assert rootless.ok("inspect", "-f", "{{.Name}}", "6161") == "/6161\n"


def test_rm_needs_no_name_link(rootless, add, paths):
    add("one")
    os.unlink(paths.name("one"))  # as a removal leaves it that was killed on the way
    rootless.ok("rm", "one")


def test_rm_refuses_what_another_process_is_at_work_on(rootless, add, paths):
    container_id = add("held")
    holding = os.open(paths.container(container_id), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(holding, fcntl.LOCK_EX)
        done = rootless("rm", "held")
    finally:
        os.close(holding)
    assert done.returncode == 1
    assert "another process is at work on it" in done.stderr
    assert rootless.ok("rm", "held") == "held\n"


# -- images ----------------------------------------------------------------------------------------


@pytest.fixture
def store_images(paths):
    """Two images, the newer with two names and the older with none."""
    store.open_store(paths)
    for digit, created, size in (("5", "2024-05-01T10:00:00Z", 74_800_000), ("6", "", 0)):
        image_id = "sha256:" + digit * 64
        record = {
            "id": image_id,
            "created": created,
            "platform": {"os": "linux", "architecture": "amd64"},
            "config": {"Labels": {"digit": digit}},
            "manifest": {"mediaType": "", "digest": "sha256:" + "7" * 64, "size": 1},
            "layers": [],
            "size": size,
        }
        with open(paths.image(image_id), "wb") as file:
            file.write(document.dumps(record))
    for name, digest in (
        ("docker.io/library/debian:12", "sha256:" + "d" * 64),
        ("registry.example:5000/team/tool:v1", ""),
    ):
        with open(paths.reference(name), "wb") as file:
            file.write(document.dumps({"reference": name, "image": IMAGE_ID, "digest": digest}))


def test_images_table(rootless, store_images):
    heading, *lines = rootless.ok("images").splitlines()
    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    rows = {tuple(line.split()[:3]) for line in lines}
    assert rows == {
        ("debian", "12", "5" * 12),
        ("registry.example:5000/team/tool", "v1", "5" * 12),
        ("<none>", "<none>", "6" * 12),
    }
    assert lines[0].endswith("74.8MB")
    assert "N/A" in lines[2]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["-q"], "555555555555 555555555555 666666666666"),
        (["-q", "--no-trunc", "debian"], IMAGE_ID),
        (["-q", "debian:11"], ""),
        (["-q", "-f", "dangling=true"], "666666666666"),
        (["-q", "-f", "label=digit=6"], "666666666666"),
        (["--filter=reference=*/team/*", "--format", "{{.ID}}"], "555555555555"),
    ],
)
def test_images_chooses(rootless, store_images, words, ids):
    assert rootless.ok("image", "ls", *words).split() == ids.split()


def test_images_digests_and_json(rootless, store_images):
    assert "sha256:" + "d" * 64 in rootless.ok("images", "--digests", "debian")
    row = json.loads(rootless.ok("images", "--format", "json", "debian"))
    assert (row["Repository"], row["Tag"], row["Size"]) == ("debian", "12", "74.8MB")


def test_image_inspect(rootless, store_images):
    (found,) = rootless.json("inspect", "debian:12")
    assert found["Id"] == IMAGE_ID
    assert "debian:12" in found["RepoTags"]


def test_rmi_removes_names_and_then_the_image(rootless, store_images):
    assert rootless.ok("rmi", "debian:12") == "Untagged: debian:12\n"
    out = rootless.ok("image", "rm", "registry.example:5000/team/tool:v1")
    assert out == f"Untagged: registry.example:5000/team/tool:v1\nDeleted: {IMAGE_ID}\n"
    assert rootless.ok("images", "-q") == "666666666666\n"


def test_rmi_of_nothing_fails_and_goes_on(rootless, store_images):
    done = rootless("rmi", "nothing", "debian:12")
    assert (done.returncode, done.stdout) == (1, "Untagged: debian:12\n")
    assert "no such image: nothing" in done.stderr
    assert rootless("rmi", "-f", "nothing").returncode == 0


# -- version and info ------------------------------------------------------------------------------


def test_version_formats(rootless):
    assert rootless.json("version", "--format", "json")["Client"]["Version"]
    assert rootless.ok("version", "-f", "{{.Server.Version}}") == (
        rootless.ok("version", "-f", "{{.Client.Version}}")
    )


def test_info_counts(rootless, add, running, store_images):
    add("fresh")
    found = rootless.json("info", "--format", "json")
    assert (found["Containers"], found["ContainersRunning"], found["ContainersStopped"]) == (
        2,
        1,
        1,
    )
    assert found["Images"] == 2
    assert found["Driver"] in ("overlay", "fuse-overlayfs", "copy")
    assert rootless.ok("system", "info").startswith("Version: ")
