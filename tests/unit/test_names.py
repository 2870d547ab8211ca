# SPDX-License-Identifier: Apache-2.0
"""Names of containers: one container a name, whoever asks at the same time."""

from __future__ import annotations

import os
import threading

import pytest

from rootless.engine import names
from rootless.errors import Conflict, UsageError
from rootless.paths import Paths


@pytest.fixture
def paths(paths: Paths) -> Paths:
    os.makedirs(paths.names)
    os.makedirs(paths.containers)
    os.makedirs(paths.locks)
    return paths


def make(paths: Paths, name: str, container_id: str) -> str:
    os.makedirs(paths.container(container_id), exist_ok=True)
    return names.claim(paths, name, container_id)


def test_name_is_claimed_once(paths: Paths) -> None:
    assert make(paths, "web", "1" * 64) == "web"
    assert os.readlink(paths.name("web")) == "1" * 64
    with pytest.raises(Conflict, match="web is already in use by container 111111111111") as failed:
        make(paths, "web", "2" * 64)
    assert failed.value.hint == "rootless rm web, or choose another --name"


def test_released_name_is_free_and_foreign_ones_stay(paths: Paths) -> None:
    make(paths, "web", "1" * 64)
    names.release(paths, "web", "2" * 64)
    assert os.readlink(paths.name("web")) == "1" * 64
    names.release(paths, "web", "1" * 64)
    names.release(paths, "web", "1" * 64)
    assert make(paths, "web", "2" * 64) == "web"


def test_name_of_a_container_that_is_gone_is_taken_over(paths: Paths) -> None:
    make(paths, "web", "1" * 64)
    os.rmdir(paths.container("1" * 64))
    assert make(paths, "web", "2" * 64) == "web"
    assert os.readlink(paths.name("web")) == "2" * 64


def test_one_of_many_that_ask_at_once_gets_the_name(paths: Paths) -> None:
    ids = [f"{number:064x}" for number in range(8)]
    for container_id in ids:
        os.makedirs(paths.container(container_id))
    start = threading.Barrier(len(ids))
    winners: list[str] = []

    def claim(container_id: str) -> None:
        start.wait()
        try:
            names.claim(paths, "web", container_id)
        except Conflict:
            return
        winners.append(container_id)

    threads = [threading.Thread(target=claim, args=(container_id,)) for container_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners == [os.readlink(paths.name("web"))]


def test_names_of_our_own_choice_are_valid_and_differ(paths: Paths) -> None:
    chosen = {make(paths, "", f"{number:064x}") for number in range(200)}
    assert len(chosen) == 200
    for name in chosen:
        names.check(name)


@pytest.mark.parametrize("name", ["ab", "a.b", "A_b-c.9", "0x", "a" * 128])
def test_check_takes_dockers_names(name: str) -> None:
    names.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", "_a", ".a", "-a", "..", "a/b", "../x", "a b", "a\0", "a\n", "a:b", "ä1", "a" * 129,
        "a\N{FULLWIDTH DIGIT ONE}",
    ],
)  # fmt: skip
def test_check_refuses_others(name: str) -> None:
    with pytest.raises(UsageError, match="invalid container name"):
        names.check(name)


def test_new_ids_are_no_pids_and_differ() -> None:
    ids = {names.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 64 and not each[:12].isdecimal() for each in ids)
