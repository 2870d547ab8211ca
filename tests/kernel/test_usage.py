# SPDX-License-Identifier: Apache-2.0
"""`system df` counts what du counts; the prunes and `system reset` remove what they say and no more."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from rootless.engine import check, containers, images, prune, usage
from rootless.errors import Conflict, UsageError
from rootless.images import garbage, records
from rootless.paths import Paths
from rootless.runtime import idmap, userns
from tests.lib import archives
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import digest
from tests.lib.tarballs import archive, directory, file, link

pytestmark = pytest.mark.needs("userns")

BASE = archives.layer({"base": b"b" * 300_000})
ONE = archives.layer({"one": b"1" * 50_000})
TWO = archives.layer({"two": b"2" * 70_000})
# Owned by somebody else, not to be read by the caller, and one file under two names.
OWNED = archive(
    directory("secret", 0o700, owner=(5, 5)),
    file("secret/key", b"k" * 20_000, owner=(5, 5)),
    link("secret/again", "secret/key"),
)


def du(path: str) -> int:
    """Allocated bytes, by the real program, as the root of the caller's ids."""

    def work() -> bytes:
        command = ["du", "-s", "--block-size=1", path]
        return subprocess.run(command, check=True, capture_output=True).stdout.split()[0]

    return int(userns.call(idmap.default(), work, isolated=False))


@pytest.fixture
def filled(rootless: CommandLine, tmp_path: Path) -> Paths:
    """Two images that share a layer, under three names, and one without a name."""
    layout = archives.Layout(tmp_path / "layout")
    layers = [BASE, OWNED] if not idmap.default().is_single else [BASE]
    one = layout.add_manifest(*layers, ONE, config={"Labels": {"keep": "yes"}})
    layout.name(one, "one:latest")
    layout.name(one, "one:again")
    layout.name(layout.add_manifest(*layers, TWO, created="2020-01-01T00:00:00Z"), "two:latest")
    layout.name(layout.add_manifest(TWO), "dangling:latest")
    rootless.ok("load", "-i", layout.tar(tmp_path / "layout.tar"))
    records.untag(rootless.paths, "docker.io/library/dangling:latest")
    return rootless.paths


def names(paths: Paths) -> list[str]:
    return [entry["reference"].rpartition("/")[2] for entry in records.list_references(paths)]


def test_df_is_du_to_the_byte(filled: Paths) -> None:
    Path(filled.tmp, "half").write_bytes(b"x" * 10_000)
    with Path(filled.images, "sparse").open("wb") as hollow:
        hollow.truncate(1 << 30)
    found = usage.measure(filled)
    assert found.total == du(filled.data)
    assert usage.total(filled) == found.total
    rows = {row.kind: row.size for row in found.rows}
    of_images = ("blobs", "layers", "images", "refs", "index.json", "oci-layout")
    assert rows["Images"] == sum(du(f"{filled.data}/{name}") for name in of_images)


def test_df_tells_shared_from_unique(filled: Paths) -> None:
    found = {image.names[0] if image.names else "": image for image in usage.measure(filled).images}
    one = found["docker.io/library/one:again"]
    layers = idmap.default().key
    base = du(filled.layer(layers, "sha256:" + digest(BASE)[7:]))
    assert one.shared >= base
    assert one.size == one.shared + one.unique
    assert 50_000 < one.unique < 150_000
    assert found[""].shared >= 70_000  # its one layer is another image's too


def test_df_of_an_empty_place(tmp_path: Path) -> None:
    found = usage.measure(Paths(str(tmp_path / "none"), str(tmp_path / "run")))
    assert found.total == 0


def test_df_command(filled: Paths) -> None:
    rootless = CommandLine(filled)
    heading, images_row = rootless.ok("system", "df").splitlines()[:2]
    assert heading.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert images_row.split()[:3] == ["Images", "3", "0"]
    rows = [
        json.loads(line) for line in rootless.ok("system", "df", "--format", "json").splitlines()
    ]
    assert sum(row["Bytes"] for row in rows) == du(filled.data)
    text = rootless.ok("system", "df", "-v")
    assert "UNIQUE SIZE" in text
    assert text.count("<none>") == 2


# -- prune ------------------------------------------------------------------------------------------


def test_image_prune_takes_what_has_no_name(filled: Paths) -> None:
    before = du(filled.data)
    pruned = prune.prune_images(filled)
    assert [list(event) for event in pruned.images] == [["Deleted"]]
    assert names(filled) == ["one:again", "one:latest", "two:latest"]
    assert pruned.reclaimed == before - du(filled.data)
    assert check.check(filled) == []


def test_image_prune_all_leaves_nothing(filled: Paths) -> None:
    prune.prune_images(filled, every=True)
    assert records.list_images(filled) == []
    assert os.listdir(filled.blobs + "/sha256") == []
    assert all(os.listdir(f"{filled.layers}/{key}") == [] for key in os.listdir(filled.layers))
    assert check.check(filled) == []


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["label=keep"], ["two:latest"]),
        (["label=keep=no"], ["one:again", "one:latest", "two:latest"]),
        (["label!=keep"], ["one:again", "one:latest"]),
        (["until=2021-01-01"], ["one:again", "one:latest"]),
        (["until=24h", "label=keep"], ["two:latest"]),
        (["until=1577836799"], ["one:again", "one:latest", "two:latest"]),
    ],
)
def test_image_prune_filters(filled: Paths, texts: list[str], left: list[str]) -> None:
    if texts == ["until=2021-01-01"] or texts == ["until=1577836799"]:
        # An image that does not say when it was made is old.
        records.save(filled, {**records.get(filled, "one"), "created": "2024-01-01T00:00:00Z"})
    prune.prune_images(filled, texts, every=True)
    assert names(filled) == left


@pytest.mark.parametrize("text", ["until=soon", "until=5 h", "colour=red", "label"])
def test_bad_filter_is_named(paths: Paths, text: str) -> None:
    with pytest.raises(UsageError, match="invalid filter"):
        prune.chosen([text])


def test_image_a_container_uses_stays(rootless: CommandLine, image: str) -> None:
    rootless.ok("run", "--name", "kept", "--network=none", image, "true")
    assert prune.prune_images(rootless.paths, every=True).images == []
    assert rootless.ok("image", "prune", "-af").splitlines() == ["Total reclaimed space: 0B"]


def test_container_prune_spares_what_runs(rootless: CommandLine, image: str) -> None:
    for name in ("one", "two"):
        rootless.ok("run", "--name", name, "--label", f"l={name}", "--network=none", image, "true")
    with rootless.start("run", "-i", "--name", "three", "--network=none", image, "cat") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("up\n")
        running.stdin.flush()
        assert running.stdout.readline() == "up\n"
        prune.prune_containers(rootless.paths, ["label=l=one"])
        assert {each.name for each in containers.list(rootless.paths)} == {"two", "three"}
        text = rootless.ok("system", "prune", "-af")
        assert "Deleted Containers:" in text
        assert {each.name for each in containers.list(rootless.paths)} == {"three"}
        assert images.list(rootless.paths)
        running.stdin.close()
    text = rootless.ok("system", "prune", "-af")
    assert "untagged: testbox:latest" in text
    assert check.check(rootless.paths) == []


def test_prune_asks(filled: Paths) -> None:
    rootless = CommandLine(filled)
    for answer in ("n\n", "", "what\n"):
        done = rootless("image", "prune", "-a", input=answer)
        assert done.returncode == 1
        assert "Are you sure you want to continue? [y/N]" in done.stdout
        assert "cancelled" in done.stderr
    assert len(images.list(filled)) == 4
    assert rootless.ok("image", "prune", "-a", input="y\n")
    assert images.list(filled) == []


def test_collection_waits_for_content_on_its_way(filled: Paths) -> None:
    blobs = set(os.listdir(filled.blobs + "/sha256"))
    with garbage.content_in_use(filled):
        prune.prune_images(filled, every=True)
        assert set(os.listdir(filled.blobs + "/sha256")) == blobs
    assert images.list(filled) == []  # any next command collects
    assert os.listdir(filled.blobs + "/sha256") == []
    assert os.listdir(filled.tmp) == []


# -- reset ------------------------------------------------------------------------------------------


def test_reset_leaves_nothing(filled: Paths) -> None:
    rootless = CommandLine(filled)
    assert rootless("system", "reset", input="n\n").returncode == 1
    assert os.path.exists(filled.version)
    rootless.ok("system", "reset", input="y\n")
    assert not os.path.exists(filled.data)
    assert rootless.ok("images", "-q") == ""


def test_reset_refuses_while_a_container_runs(rootless: CommandLine, image: str) -> None:
    with rootless.start("run", "-i", "--name", "up", "--network=none", image, "cat") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("up\n")
        running.stdin.flush()
        assert running.stdout.readline() == "up\n"
        done = rootless("system", "reset", input="y\n")
        assert done.returncode == 1
        assert "container up is running" in done.stderr
        rootless.ok("system", "reset", "-f")
        assert running.wait() == 137
    assert not os.path.exists(rootless.paths.data)


def test_reset_deletes_no_foreign_directory(tmp_path: Path) -> None:
    from rootless.engine.reset import reset

    (tmp_path / "precious").write_text("mine")
    with pytest.raises(Exception, match="does not look like a store"):
        reset(Paths(str(tmp_path), str(tmp_path / "run")), force=True)
    assert (tmp_path / "precious").exists()


def test_reset_waits_for_nobody_unasked(filled: Paths) -> None:
    from rootless.engine.reset import reset

    with garbage.content_in_use(filled), pytest.raises(Conflict):
        reset(filled)
    assert os.path.exists(filled.version)
