# SPDX-License-Identifier: Apache-2.0
"""Pulling from a real registry into a real store."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.engine import images, removal
from rootless.errors import (
    Conflict,
    DigestMismatch,
    Incomplete,
    Interrupted,
    Invalid,
    NoSpace,
    NotFound,
)
from rootless.images import pull as pulling
from rootless.images import records, space
from rootless.images.patience import Cancellation, Patience
from rootless.images.progress import Silent
from rootless.images.registry import Registry
from rootless.oci import document, platform, reference
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage import store
from rootless.storage.layers import Layers
from tests.lib import archives, registry
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import Answer, FakeRegistry, Seen, digest

pytestmark = [
    pytest.mark.needs("userns"),
    # The servers of these tests are threads of the process that forks; ours has none by then.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

BASE = archives.layer({"bin/base": b"base", "etc/shared": b"lower"})
TOP = archives.layer({"bin/top": b"top", "etc/shared": b"upper"})
OTHER = archives.layer({"bin/other": b"other"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that holds every kind of image, filled once."""
    directory = tmp_path_factory.mktemp("registry")
    layout = archives.Layout(directory / "layout")
    layout.name(layout.add_manifest(BASE, TOP), "gzip")
    layout.name(layout.add_manifest(BASE, TOP, how="zstd"), "zstd")
    layout.name(layout.add_manifest(BASE, OTHER), "other")
    arm = layout.add_manifest(OTHER, architecture="arm64", variant="v8")
    amd = layout.add_manifest(BASE)
    layout.name(
        layout.add_index(
            {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
        ),
        "index",
    )
    with registry.serving(directory) as name:
        for tag in ("gzip", "zstd", "other", "index"):
            flags = ("--all", "--preserve-digests")
            registry.copy(f"oci:{layout.directory}:{tag}", f"docker://{name}/image:{tag}", *flags)
        target = f"docker://{name}/image:v2s2"
        registry.copy(f"oci:{layout.directory}:gzip", target, "--format", "v2s2")
        yield name


def names_in(directory: str) -> list[str]:
    return sorted(os.listdir(directory))


def tree_file(paths: Paths, record: dict[str, object], layer: int, name: str) -> bytes:
    layers = Layers(paths, idmap.default())
    diff_id = record["layers"][layer]["diff_id"]  # type: ignore[index]
    return Path(layers.tree(diff_id), name).read_bytes()


@pytest.mark.needs("docker-registry", "skopeo")
@pytest.mark.parametrize("tag", ["gzip", "zstd", "v2s2"])
def test_pull_brings_blobs_layers_image_and_reference(server: str, paths: Paths, tag: str) -> None:
    pulled = images.fetch(paths, f"{server}/image:{tag}")
    record = records.get(paths, f"{server}/image:{tag}")
    assert pulled.is_news
    assert pulled.record == record
    assert record["config"]["Cmd"] == ["sh"]
    assert record["size"] == len(b"base" + b"lower" + b"top" + b"upper")
    assert [each["diff_id"] for each in record["layers"]] == [digest(BASE), digest(TOP)]
    assert tree_file(paths, record, 0, "etc/shared") == b"lower"
    assert tree_file(paths, record, 1, "bin/top") == b"top"
    blobs = {record["id"], record["manifest"]["digest"], *(e["digest"] for e in record["layers"])}
    assert {f"sha256:{name}" for name in names_in(paths.blobs + "/sha256")} == blobs
    (entry,) = document.load(paths.index)["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == f"{server}/image:{tag}"
    assert names_in(paths.tmp) == []


@pytest.mark.needs("docker-registry", "skopeo")
def test_pull_again_is_no_news(server: str, paths: Paths) -> None:
    first = images.fetch(paths, f"{server}/image:gzip")
    again = images.fetch(paths, f"{server}/image:gzip")
    assert (first.is_news, again.is_news) == (True, False)
    assert first.record == again.record


@pytest.mark.needs("docker-registry", "skopeo")
def test_layers_of_two_images_are_stored_once(server: str, paths: Paths) -> None:
    images.pull(paths, f"{server}/image:gzip")
    images.pull(paths, f"{server}/image:other")
    key = idmap.default().key
    expected = sorted(digest(each)[7:] for each in (BASE, TOP, OTHER))
    assert names_in(f"{paths.layers}/{key}") == expected


@pytest.mark.needs("docker-registry", "skopeo")
def test_same_image_differently_compressed_is_one_image(server: str, paths: Paths) -> None:
    first = images.pull(paths, f"{server}/image:gzip")
    second = images.pull(paths, f"{server}/image:zstd")
    assert first["id"] == second["id"]
    assert len(records.list_references(paths)) == 2


@pytest.mark.needs("docker-registry", "skopeo")
def test_pull_chooses_by_platform(server: str, paths: Paths) -> None:
    arm = images.pull(paths, f"{server}/image:index", platform.parse("linux/arm64"))
    assert arm["platform"]["architecture"] == "arm64"
    amd = images.pull(paths, f"{server}/image:index", platform.parse("linux/amd64"))
    assert amd["layers"][0]["diff_id"] == digest(BASE)
    with pytest.raises(NotFound, match=r"no image for linux/s390x: there is linux/amd64"):
        images.pull(paths, f"{server}/image:index", platform.parse("linux/s390x"))


@pytest.mark.needs("docker-registry", "skopeo")
def test_pull_by_digest_is_found_by_digest(server: str, paths: Paths) -> None:
    tagged = images.fetch(paths, f"{server}/image:gzip")
    named = f"{server}/image@{tagged.digest}"
    assert records.get(paths, named)["id"] == tagged.record["id"]
    assert images.fetch(paths, named).digest == tagged.digest
    assert images.inspect(paths, named)["RepoDigests"] == [named]


@pytest.mark.needs("docker-registry", "skopeo")
def test_command_prints_what_docker_prints(server: str, rootless: CommandLine) -> None:
    name = f"{server}/image:other"
    first = rootless.ok("pull", name).splitlines()
    assert first[0] == "other: Pulling from image"
    assert first[1].endswith(": Pulling fs layer")
    assert f"Status: Downloaded newer image for {name}" in first
    assert first[-1] == name
    again = rootless.ok("pull", name).splitlines()
    assert again[1].endswith(": Already exists")
    assert f"Status: Image is up to date for {name}" in again
    assert rootless.ok("pull", "-q", name) == name + "\n"


@pytest.mark.needs("docker-registry", "skopeo")
def test_unknown_tag_is_one_sentence_and_leaves_nothing(server: str, rootless: CommandLine) -> None:
    done = rootless("pull", f"{server}/image:nothing")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("does not have it (404): manifest unknown")
    assert names_in(rootless.paths.blobs) == []


# -- what goes wrong in the middle ----------------------------------------------------------------


QUICK = Patience(tries=2, first_wait=0, longest_wait=0, idle=5)


def pull_from(fake: FakeRegistry, paths: Paths, cancellation: Cancellation | None = None) -> None:
    store.open_store(paths)
    wanted = reference.parse(f"{fake.domain}/image:latest")
    client = Registry(
        wanted.domain, wanted.path, patience=QUICK, environ={}, cancellation=cancellation
    )
    try:
        pulling.pull(paths, idmap.default(), wanted, None, client, Silent())
    finally:
        client.close()


def assert_nothing_visible(paths: Paths) -> None:
    assert records.list_images(paths) == []
    assert records.list_references(paths) == []
    assert names_in(paths.tmp) == []


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


def test_second_pull_of_an_unchanged_tag_is_one_request(fake: FakeRegistry, paths: Paths) -> None:
    fake.add_image(BASE, TOP)
    pull_from(fake, paths)
    first = len(fake.seen)
    pull_from(fake, paths)
    assert [each.path for each in fake.seen[first:]] == ["/v2/image/manifests/latest"]


@pytest.mark.usefixtures("clean_host")
def test_pull_resumes_a_layer_that_drops(fake: FakeRegistry, paths: Paths) -> None:
    fake.add_image(BASE, TOP)
    path = f"/v2/image/blobs/{digest(TOP)}"
    fake.answers[path] = [Answer(body=TOP, drop_at=777), Answer(body=TOP)]
    pull_from(fake, paths)
    assert len(records.list_images(paths)) == 1


@pytest.mark.usefixtures("clean_host")
def test_layer_that_drops_for_good_leaves_nothing(fake: FakeRegistry, paths: Paths) -> None:
    fake.add_image(BASE, TOP)
    fake.answers[f"/v2/image/blobs/{digest(TOP)}"] = [Answer(body=TOP, drop_at=777)]
    with pytest.raises(Incomplete):
        pull_from(fake, paths)
    assert_nothing_visible(paths)


@pytest.mark.usefixtures("clean_host")
def test_layer_with_other_bytes_leaves_nothing(fake: FakeRegistry, paths: Paths) -> None:
    fake.add_image(BASE, TOP)
    changed = TOP.replace(b"upper", b"owned")
    fake.answers[f"/v2/image/blobs/{digest(TOP)}"] = [Answer(body=changed)]
    with pytest.raises(DigestMismatch):
        pull_from(fake, paths)
    assert_nothing_visible(paths)
    assert not Layers(paths, idmap.default()).has(digest(TOP))


@pytest.mark.usefixtures("clean_host")
def test_layer_with_other_diff_id_leaves_nothing(fake: FakeRegistry, paths: Paths) -> None:
    claimed = {"type": "layers", "diff_ids": [digest(BASE), digest(OTHER)]}
    fake.add_image(BASE, TOP, rootfs=claimed)
    with pytest.raises(DigestMismatch):
        pull_from(fake, paths)
    assert_nothing_visible(paths)
    assert not Layers(paths, idmap.default()).has(digest(OTHER))


@pytest.mark.usefixtures("clean_host")
@pytest.mark.parametrize(
    "damaged", [BASE[:1500], b"\x1f\x8b\x08junk", b"\x28\xb5\x2f\xfdjunk", b"no archive" * 100]
)
def test_damaged_layer_leaves_nothing(fake: FakeRegistry, paths: Paths, damaged: bytes) -> None:
    fake.add_image(damaged)
    with pytest.raises(Invalid):
        pull_from(fake, paths)
    assert_nothing_visible(paths)


def test_more_diff_ids_than_layers_is_refused(fake: FakeRegistry, paths: Paths) -> None:
    claimed = {"type": "layers", "diff_ids": [digest(BASE), digest(TOP)]}
    fake.add_image(BASE, rootfs=claimed)
    with pytest.raises(Invalid, match="2 entries for 1 layers"):
        pull_from(fake, paths)
    assert_nothing_visible(paths)


@pytest.mark.usefixtures("clean_host")
def test_cancelled_pull_leaves_nothing(fake: FakeRegistry, paths: Paths) -> None:
    hold, cancellation = threading.Event(), Cancellation()
    fake.add_image(BASE, TOP)

    def stall(seen: Seen) -> Answer:
        threading.Timer(0.05, cancellation.cancel).start()
        return Answer(body=TOP, drop_at=777, hold=hold)

    fake.answers[f"/v2/image/blobs/{digest(TOP)}"] = [stall]
    try:
        with pytest.raises(Interrupted):
            pull_from(fake, paths, cancellation)
    finally:
        hold.set()
    assert_nothing_visible(paths)


def test_interrupted_command_leaves_nothing(fake: FakeRegistry, rootless: CommandLine) -> None:
    hold, reached = threading.Event(), threading.Event()
    fake.add_image(BASE, TOP)

    def stall(seen: Seen) -> Answer:
        reached.set()
        return Answer(body=TOP, drop_at=777, hold=hold)

    fake.answers[f"/v2/image/blobs/{digest(TOP)}"] = [stall]
    process = rootless.start("pull", f"{fake.domain}/image")
    try:
        assert reached.wait(30)
        process.send_signal(2)
        assert process.wait(30) == 130
    finally:
        hold.set()
        process.communicate()
    assert_nothing_visible(rootless.paths)


def test_killed_command_leaves_what_the_next_one_sweeps(
    fake: FakeRegistry, rootless: CommandLine
) -> None:
    hold, reached = threading.Event(), threading.Event()
    fake.add_image(BASE, TOP)

    def stall(seen: Seen) -> Answer:
        reached.set()
        return Answer(body=TOP, drop_at=777, hold=hold)

    fake.answers[f"/v2/image/blobs/{digest(TOP)}"] = [stall, Answer(body=TOP)]
    process = rootless.start("pull", f"{fake.domain}/image")
    try:
        assert reached.wait(30)
    finally:
        process.kill()
        hold.set()
        process.communicate()
    assert records.list_references(rootless.paths) == []
    rootless.ok("pull", f"{fake.domain}/image")
    assert names_in(rootless.paths.tmp) == []


@pytest.mark.needs("docker-registry", "skopeo")
def test_several_pulls_at_once_make_one_image(server: str, rootless: CommandLine) -> None:
    names = [f"{server}/image:{tag}" for tag in ("gzip", "zstd", "other", "gzip")]
    pulls = [rootless.start("pull", "-q", name) for name in names]
    for name, process in zip(names, pulls, strict=True):
        out, errors = process.communicate()
        assert (out, errors, process.returncode) == (name + "\n", "", 0)
    layers = Layers(rootless.paths, idmap.default())
    assert layers.list() == sorted(digest(each) for each in (BASE, TOP, OTHER))
    assert names_in(rootless.paths.tmp) == []


def test_image_larger_than_the_disk_is_refused_at_once(fake: FakeRegistry, paths: Paths) -> None:
    manifest = fake.add_image(BASE)
    manifest["layers"][0]["size"] = 1 << 60
    fake.answers.pop("/v2/image/manifests/latest")
    fake.add_manifest(manifest)
    with pytest.raises(NoSpace, match=r"needs \d+ bytes and .* has \d+ free") as raised:
        pull_from(fake, paths)
    assert "rootless rmi" in raised.value.hint
    assert not fake.requests(f"/v2/image/blobs/{digest(BASE)}")


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(NoSpace, match="cannot pull x: .* inodes free"),
        space.reporting_full(str(tmp_path), "pull x"),
    ):
        raise OSError(28, "No space left on device")


# -- removing ---------------------------------------------------------------------------------------


@pytest.mark.needs("docker-registry", "skopeo")
def test_removing_the_last_name_removes_what_only_it_used(server: str, paths: Paths) -> None:
    images.pull(paths, f"{server}/image:gzip")
    other = images.pull(paths, f"{server}/image:other")
    events = removal.remove(paths, f"{server}/image:gzip")
    assert [next(iter(event)) for event in events] == ["Untagged", "Deleted"]
    layers = Layers(paths, idmap.default())
    assert [layers.has(digest(each)) for each in (BASE, TOP, OTHER)] == [True, False, True]
    blobs = {other["id"], other["manifest"]["digest"], *(e["digest"] for e in other["layers"])}
    assert {f"sha256:{name}" for name in names_in(paths.blobs + "/sha256")} == blobs


@pytest.mark.needs("docker-registry", "skopeo")
def test_removing_one_of_two_names_only_untags(server: str, paths: Paths) -> None:
    record = images.pull(paths, f"{server}/image:gzip")
    records.tag(paths, "example.org/second:1", record["id"])
    assert removal.remove(paths, f"{server}/image:gzip") == [{"Untagged": f"{server}/image:gzip"}]
    assert records.get(paths, "example.org/second:1")["id"] == record["id"]


@pytest.mark.needs("docker-registry", "skopeo")
def test_removing_by_id_with_names_in_several_repositories_needs_force(
    server: str, paths: Paths
) -> None:
    record = images.pull(paths, f"{server}/image:gzip")
    records.tag(paths, "example.org/second:1", record["id"])
    with pytest.raises(Conflict, match="several repositories"):
        removal.remove(paths, record["id"])
    assert len(removal.remove(paths, record["id"], force=True)) == 3
    assert records.list_images(paths) == []


@pytest.mark.needs("docker-registry", "skopeo")
def test_image_that_a_container_uses_is_kept(server: str, paths: Paths) -> None:
    record = images.pull(paths, f"{server}/image:gzip")
    container = "c" * 64
    os.makedirs(paths.container(container))
    told = {"id": container, "name": "user", "created": 1.0, "image_id": record["id"]}
    Path(paths.container_record(container)).write_text(json.dumps(told))
    with pytest.raises(Conflict, match="container user uses it"):
        removal.remove(paths, f"{server}/image:gzip")
    removal.remove(paths, f"{server}/image:gzip", force=True)
    assert records.get(paths, record["id"])["id"] == record["id"]
    assert Layers(paths, idmap.default()).has(digest(TOP))
