# SPDX-License-Identifier: Apache-2.0
"""Downloads that were interrupted go on where they stopped; one process does the work for several."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.engine import check, images, prune
from rootless.images import garbage, records, recovery
from rootless.oci import digest as digests
from rootless.paths import Paths
from rootless.runtime import idmap
from rootless.storage import partial, store
from rootless.storage.layers import Layers
from tests.lib import archives, waiting
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import Answer, FakeRegistry, digest

pytestmark = [
    pytest.mark.needs("userns"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

FIRST = archives.layer({"first": b"1" * 100_000})
BIG = archives.layer({"big": os.urandom(600_000)})
BLOB = f"/v2/image/blobs/{digest(BIG)}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with FakeRegistry() as server:
        server.add_image(FIRST, BIG)
        yield server


def ranges(fake: FakeRegistry) -> list[str]:
    """The Range headers of the requests for the big layer; "" for one without."""
    return [seen.headers.get("Range", "") for seen in fake.requests(BLOB)]


def kept(paths: Paths) -> Path:
    return Path(paths.partial_blob(digest(BIG)))


def kill_in_the_middle(fake: FakeRegistry, paths: Paths, count: int) -> None:
    """Kill a pull once `count` bytes of the big layer are on the disk."""
    hold = threading.Event()
    good = fake.answers[BLOB]
    fake.answers[BLOB] = [Answer(body=BIG, drop_at=count, hold=hold)]
    process = CommandLine(paths).start("pull", "-q", f"{fake.domain}/image")
    try:
        assert waiting.until(lambda: kept(paths).exists() and kept(paths).stat().st_size == count)
        # The other layer is whole by then, and unpacked.
        assert waiting.until(lambda: Layers(paths, idmap.default()).has(digest(FIRST)))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hold.set()
        fake.answers[BLOB] = good
        fake.seen.clear()


def test_killed_pull_goes_on_where_it_was(fake: FakeRegistry, paths: Paths) -> None:
    kill_in_the_middle(fake, paths, 400_000)
    images.list(paths)  # the next commands leave alone what is wanted
    assert check.check(paths) == []
    assert kept(paths).stat().st_size == 400_000
    images.pull(paths, f"{fake.domain}/image")
    assert ranges(fake) == ["bytes=400000-"]
    assert fake.requests(f"/v2/image/blobs/{digest(FIRST)}") == []
    assert os.listdir(paths.partial) == []
    assert check.check(paths) == []


def test_lost_connection_is_taken_up_by_the_next_command(fake: FakeRegistry, paths: Paths) -> None:
    rootless = CommandLine(paths)
    good = fake.answers[BLOB]
    refused = Answer(403)
    fake.answers[BLOB] = [Answer(body=BIG, drop_at=300_000), refused]
    assert rootless("pull", "-q", f"{fake.domain}/image").returncode == 1
    assert kept(paths).stat().st_size == 300_000
    fake.answers[BLOB] = good
    fake.seen.clear()
    rootless.ok("pull", "-q", f"{fake.domain}/image")
    assert ranges(fake) == ["bytes=300000-"]


def test_registry_without_ranges_sends_it_all_again(fake: FakeRegistry, paths: Paths) -> None:
    kill_in_the_middle(fake, paths, 200_000)
    fake.answers[BLOB] = [Answer(body=BIG, ranges=False)]
    images.pull(paths, f"{fake.domain}/image")
    assert check.check(paths) == []


def test_complete_but_unnamed_download_is_not_asked_for(fake: FakeRegistry, paths: Paths) -> None:
    kill_in_the_middle(fake, paths, 200_000)
    kept(paths).write_bytes(BIG)
    images.pull(paths, f"{fake.domain}/image")
    assert ranges(fake) == []


@pytest.mark.parametrize("damage", ["altered", "too long", "zeros"])
def test_damaged_remains_are_thrown_away(fake: FakeRegistry, paths: Paths, damage: str) -> None:
    kill_in_the_middle(fake, paths, 200_000)
    data = bytearray(kept(paths).read_bytes())
    data[100_000] ^= 1
    changed = {"altered": bytes(data), "too long": BIG + b"x", "zeros": bytes(200_000)}
    kept(paths).write_bytes(changed[damage])
    images.pull(paths, f"{fake.domain}/image")
    assert ranges(fake)[-1] == ""
    assert check.check(paths) == []
    assert os.listdir(paths.partial) == []


def test_kept_downloads_have_a_limit_of_time(fake: FakeRegistry, paths: Paths) -> None:
    kill_in_the_middle(fake, paths, 200_000)
    old = 1_000_000
    for name in os.listdir(paths.partial):
        os.utime(f"{paths.partial}/{name}", (old, old))
    images.list(paths)
    assert os.listdir(paths.partial) == []
    assert os.listdir(paths.blobs + "/sha256") == []
    assert Layers(paths, idmap.default()).list() == []


def test_prune_drops_kept_downloads(fake: FakeRegistry, paths: Paths) -> None:
    kill_in_the_middle(fake, paths, 200_000)
    rows = CommandLine(paths).ok("system", "df", "--format", "{{.Type}} {{.Bytes}}")
    (size,) = [int(row.split()[1]) for row in rows.splitlines() if row.startswith("Downloads")]
    assert size >= 200_000
    pruned = prune.prune_system(paths)
    assert pruned.reclaimed >= 300_000
    assert os.listdir(paths.partial) == []
    assert os.listdir(paths.blobs + "/sha256") == []


def test_download_that_breaks_its_promise_is_not_kept(fake: FakeRegistry, paths: Paths) -> None:
    fake.answers[BLOB] = [Answer(body=BIG[:-1] + b"x")]
    assert CommandLine(paths)("pull", "-q", f"{fake.domain}/image").returncode == 1
    assert os.listdir(paths.partial) == []
    assert os.listdir(paths.blobs + "/sha256") == []
    assert Layers(paths, idmap.default()).list() == []


def test_download_in_use_is_not_pruned(paths: Paths) -> None:
    store.open_store(paths)
    with partial.Writer(paths, digests.parse(digest(BIG)), len(BIG)) as writer:
        list(writer.replay())
        writer.write(BIG[:1000])
        assert partial.sweep(paths, every=True) == 0
        writer.write(BIG[1000:])
        writer.commit()
    with garbage.content_in_use(paths):
        recovery.settle(paths)
    assert Path(paths.blob(digest(BIG))).read_bytes() == BIG


def test_several_pulls_of_one_image_download_once(fake: FakeRegistry, paths: Paths) -> None:
    """The first is held in the middle until the others have asked for the manifest."""
    hold = threading.Event()
    fake.answers[BLOB] = [Answer(body=BIG, hold=hold)]
    rootless = CommandLine(paths)
    pulls = [rootless.start("pull", "-q", f"{fake.domain}/image") for _ in range(4)]
    try:
        manifests = "/v2/image/manifests/latest"
        assert waiting.until(lambda: len(fake.requests(manifests)) == 4 and ranges(fake))
    finally:
        hold.set()
    for each in pulls:
        out, err = each.communicate()
        assert each.returncode == 0, err
        assert out == f"{fake.domain}/image:latest\n"
    assert ranges(fake) == [""]
    assert len(fake.requests(f"/v2/image/blobs/{digest(FIRST)}")) == 1
    assert len(records.list_images(paths)) == 1
    assert check.check(paths) == []


def test_stray_downloads_are_a_fault(paths: Paths) -> None:
    store.open_store(paths)
    os.mkdir(paths.partial, 0o700)
    kept(paths).write_bytes(b"half")
    assert [fault.kind for fault in check.check(paths)] == ["leftover"]
    assert all(fault.mended for fault in check.check(paths, repair=True))
    assert os.listdir(paths.partial) == []
