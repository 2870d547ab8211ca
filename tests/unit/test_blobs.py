# SPDX-License-Identifier: Apache-2.0
"""Blobs and the store they lie in: complete or absent, checked on the way in and out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Conflict, DigestMismatch, HostUnable, Invalid, NotFound
from rootless.oci import digest
from rootless.paths import Paths
from rootless.storage import locks, staging, store
from rootless.storage.blobs import Blobs

OTHER = digest.of(b"other")


@pytest.fixture
def blobs(paths: Paths) -> Blobs:
    store.open_store(paths)
    return Blobs(paths)


def leftovers(paths: Paths) -> list[str]:
    return os.listdir(paths.tmp)


def test_put_and_read(blobs: Blobs, paths: Paths) -> None:
    name = blobs.put(b"content")
    assert name == digest.of(b"content")
    assert blobs.has(name)
    assert blobs.size(name) == 7
    assert blobs.read(name, 7) == b"content"
    assert list(blobs.digests()) == [name]
    assert Path(paths.blob(name)).read_bytes() == b"content"
    assert leftovers(paths) == []


def test_put_twice_is_one_blob(blobs: Blobs) -> None:
    assert blobs.put(b"x") == blobs.put(b"x")
    assert len(list(blobs.digests())) == 1


def test_delete(blobs: Blobs) -> None:
    name = blobs.put(b"x")
    blobs.delete(name)
    blobs.delete(name)
    assert not blobs.has(name)
    for use in (blobs.size, blobs.open, lambda name: blobs.read(name, 9)):
        with pytest.raises(NotFound, match="no such blob"):
            use(name)


def test_read_limit(blobs: Blobs) -> None:
    with pytest.raises(Invalid, match="larger than 3 bytes"):
        blobs.read(blobs.put(b"four"), 3)


def test_changed_blob_is_noticed_when_read(blobs: Blobs, paths: Paths) -> None:
    name = blobs.put(b"good")
    Path(paths.blob(name)).write_bytes(b"evil")
    with pytest.raises(DigestMismatch, match=f"expected {name} got {digest.of(b'evil')}"):
        blobs.read(name, 9)


def test_writer_commits_expected_blob(blobs: Blobs) -> None:
    name = digest.of(b"ab", "sha512")
    with blobs.writer(name, 2) as writer:
        writer.write(b"a")
        writer.write(memoryview(b"b"))
        assert not blobs.has(name)
        assert writer.commit() == (name, 2)
    assert blobs.has(name)


def test_wrong_digest_is_refused(blobs: Blobs, paths: Paths) -> None:
    with blobs.writer(OTHER) as writer:
        writer.write(b"x")
        with pytest.raises(DigestMismatch, match=f"expected {OTHER} got sha256:"):
            writer.commit()
    assert list(blobs.digests()) == leftovers(paths) == []


def test_wrong_size_is_refused(blobs: Blobs, paths: Paths) -> None:
    with blobs.writer(None, 2) as writer:
        writer.write(b"x")
        with pytest.raises(Invalid, match="1 bytes and not the 2 promised"):
            writer.commit()
    with (
        pytest.raises(Invalid, match="longer than the 2 bytes"),
        blobs.writer(None, 2) as writer,
    ):
        writer.write(b"xxx")
    assert list(blobs.digests()) == leftovers(paths) == []


def test_leaving_without_commit_leaves_nothing(blobs: Blobs, paths: Paths) -> None:
    with blobs.writer() as writer:
        writer.write(b"x")
    assert list(blobs.digests()) == leftovers(paths) == []


@pytest.mark.parametrize("name", ["sha256:../../version", "../version", "md5:00"])
def test_names_that_are_no_digests_are_refused(blobs: Blobs, name: str) -> None:
    for use in (blobs.has, blobs.open, blobs.delete, blobs.writer):
        with pytest.raises(Invalid):
            use(name)


def test_foreign_files_are_no_blobs(blobs: Blobs, paths: Paths) -> None:
    blobs.put(b"x")
    Path(paths.blobs, "sha256", "README").write_text("hello")
    assert len(list(blobs.digests())) == 1


# -- the store --------------------------------------------------------------------------------------


def test_store_is_private(paths: Paths) -> None:
    old = os.umask(0)
    try:
        store.ensure(paths)
    finally:
        os.umask(old)
    for path in (paths.data, paths.blobs, paths.layers, paths.containers, paths.tmp):
        assert os.stat(path).st_mode & 0o7777 == 0o700
    assert Path(paths.version).read_text() == "1\n"
    store.ensure(paths)
    store.open_store(paths)


@pytest.mark.parametrize("version", ["2\n", "", "one", "1 2"])
def test_store_of_another_layout_is_refused(paths: Paths, version: str) -> None:
    store.ensure(paths)
    Path(paths.version).write_text(version)
    for use in (store.ensure, store.open_store):
        with pytest.raises(HostUnable, match="its layout is"):
            use(paths)


def test_store_where_nobody_may_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostUnable, match="cannot make the store"):
        store.ensure(Paths(str(tmp_path / "file" / "store"), str(tmp_path)))


def test_abandoned_work_is_swept_and_held_work_is_not(paths: Paths) -> None:
    store.open_store(paths)
    gone, fd = staging.make_directory(paths, "layer")
    Path(gone, "deep", "er").mkdir(parents=True)
    os.close(fd)
    Path(paths.tmp, "stray").write_text("x")
    held, fd = staging.make_file(paths, "blob")
    store.open_store(paths)
    assert leftovers(paths) == [os.path.basename(held)]
    os.close(fd)
    assert staging.sweep(paths) == 1


# -- locks ------------------------------------------------------------------------------------------


def test_lock_excludes_and_names_the_holder(paths: Paths) -> None:
    store.open_store(paths)
    path = paths.lock("layer", "x")
    holder = rf"in use: layer-x by process {os.getpid()} \("
    with locks.Lock(path), pytest.raises(Conflict, match=holder):
        locks.Lock(path, wait=False).__enter__()
    with locks.Lock(path, shared=True), locks.Lock(path, shared=True, wait=False):
        pass
    with locks.Lock(path, wait=False):
        pass


def test_released_lock_is_not_kept_by_a_forked_process(paths: Paths) -> None:
    store.open_store(paths)
    path = paths.lock("layer", "x")
    waiting, going_on = os.pipe()
    lock = locks.Lock(path)
    lock.__enter__()
    child = os.fork()
    if child == 0:
        os.close(going_on)
        os.read(waiting, 1)
        os._exit(0)
    lock.release()
    with locks.Lock(path, wait=False):
        pass
    os.close(waiting)
    os.close(going_on)
    os.waitpid(child, 0)
