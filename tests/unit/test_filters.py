# SPDX-License-Identifier: Apache-2.0
"""What --filter chooses among containers and images that are plain values."""

from __future__ import annotations

import time

import pytest

from rootless.engine import filters
from rootless.engine.containers import Container
from rootless.engine.images import Listed
from rootless.errors import UsageError
from rootless.paths import Paths

NOWHERE = Paths("/nonexistent/store", "/nonexistent/run")


def container(name: str, **changes: object) -> Container:
    values = {
        "id": (name.encode().hex() * 64)[:64],
        "name": name,
        "created": 1.0,
        "image": "debian:12",
        "image_id": "sha256:" + "ab" * 32,
        "command": (),
        "labels": {},
        "status": "exited",
        "pid": 0,
        "exit_code": 0,
        "started": None,
        "finished": None,
        "record": {},
    }
    return Container(**{**values, **changes})  # type: ignore[arg-type]


CONTAINERS = [
    container("web", status="running", labels={"tier": "front", "plain": ""}),
    container("db", exit_code=3, labels={"tier": "back"}),
    container("job", status="created", image="localhost:5000/job"),
]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], "web db job"),
        (["name=b"], "web db job"),
        (["name=^/?db$"], "db"),
        (["name=web", "name=job"], "web job"),
        (["id=" + b"db".hex()], "db"),
        (["label=tier"], "web db"),
        (["label=tier=back"], "db"),
        (["label=tier", "label=plain"], "web"),
        (["status=running", "status=created"], "web job"),
        (["status=exited", "name=web"], ""),
        (["exited=3"], "db"),
        (["exited=0"], ""),
        (["ancestor=debian"], "web db"),
        (["ancestor=debian:12"], "web db"),
        (["ancestor=debian:11"], ""),
        (["ancestor=abab"], "web db job"),
        (["ancestor=localhost:5000/job"], "job"),
        (["ancestor=localhost:5000/job:latest"], "job"),
    ],
)
def test_filter_chooses_containers(texts, names):
    chosen = filters.parse(texts, filters.CONTAINER_KEYS)
    found = filters.choose_containers(NOWHERE, CONTAINERS, chosen)
    assert [item.name for item in found] == names.split()


@pytest.mark.parametrize(
    "text", ["nothing", "colour=red", "status=asleep", "exited=soon", "name=("]
)
def test_bad_filter_is_a_usage_error(text):
    with pytest.raises(UsageError, match="invalid filter"):
        filters.choose_containers(
            NOWHERE, CONTAINERS, filters.parse([text], filters.CONTAINER_KEYS)
        )


def row(reference: str, **labels: str) -> Listed:
    return Listed(reference, "", "sha256:" + "a" * 64, "", 1, {"config": {"Labels": labels}})


IMAGES = [
    row("docker.io/library/debian:12"),
    row("docker.io/library/debian:11", role="base"),
    row("quay.io/team/debian:12"),
    row(""),
]


@pytest.mark.parametrize(
    ("texts", "references"),
    [
        (["reference=debian"], "docker.io/library/debian:12 docker.io/library/debian:11"),
        (["reference=debian:12"], "docker.io/library/debian:12"),
        (["reference=deb*:11"], "docker.io/library/debian:11"),
        (["reference=*/*/debian"], "docker.io/library/debian:12 docker.io/library/debian:11 quay.io/team/debian:12"),
        (["label=role=base"], "docker.io/library/debian:11"),
        (["dangling=false", "reference=quay.io/team/*"], "quay.io/team/debian:12"),
    ],
)  # fmt: skip
def test_filter_chooses_images(texts, references):
    found = filters.choose_images(NOWHERE, IMAGES, filters.parse(texts, filters.IMAGE_KEYS))
    assert [each.reference for each in found] == references.split()


def test_dangling_images_have_no_reference():
    found = filters.choose_images(NOWHERE, IMAGES, {"dangling": ["true"]})
    assert found == [IMAGES[3]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("1h30m", 5400), ("90s", 90), ("0s", 0), ("500ms", 0.5), ("1.5h", 5400)],
)
def test_until_takes_spans(text, seconds):
    assert filters.moment(text) == pytest.approx(time.time() - seconds, abs=60)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1700000000),
        ("1700000000.5", 1700000000.5),
        ("2024-01-31T00:00:00Z", 1706659200),
        ("2024-01-31T01:00:00+01:00", 1706659200),
    ],
)
def test_until_takes_moments(text, moment):
    assert filters.moment(text) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "24d", "2024-13-01", "h", "-1h"])
def test_until_that_is_neither_is_refused(text):
    with pytest.raises(UsageError, match="neither a span nor a time"):
        filters.moment(text)
