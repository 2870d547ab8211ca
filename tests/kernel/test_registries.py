# SPDX-License-Identifier: Apache-2.0
"""Registries as the configuration wants them: mirrors, what is blocked, limits, names without a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lib import archives
from tests.lib.command_line import CommandLine
from tests.lib.fake_registry import Answer, FakeRegistry, digest

pytestmark = pytest.mark.needs("userns")

LAYER = archives.layer({f"d/{number}": b"x" for number in range(20)})
Configure = Callable[[str], None]


@pytest.fixture
def configure(rootless: CommandLine, tmp_path: Path) -> Configure:
    """A function that writes the user's file."""
    home = tmp_path / "config"
    (home / "rootless").mkdir(parents=True)
    rootless.environ |= {"XDG_CONFIG_HOME": str(home), "ROOTLESS_SITE_CONFIG": "/none"}

    def write(text: str) -> None:
        (home / "rootless" / "config.yaml").write_text(text)

    return write


@pytest.fixture
def home() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        server.add_image(LAYER)
        yield server


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


def with_mirror(home: FakeRegistry, mirror: FakeRegistry) -> str:
    return f"registries: {{hosts: {{'{home.domain}': {{mirrors: ['{mirror.domain}']}}}}}}"


def test_mirror_is_asked_first(
    rootless: CommandLine, configure: Configure, home: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.add_image(LAYER)
    configure(with_mirror(home, mirror))
    assert rootless.ok("pull", "-q", f"{home.domain}/image") == f"{home.domain}/image:latest\n"
    assert home.seen == []


def test_home_answers_for_a_mirror_that_fails(
    rootless: CommandLine, configure: Configure, home: FakeRegistry, mirror: FakeRegistry
) -> None:
    """The mirror breaks off in the middle; what it sent is kept, and its end comes from home."""
    mirror.add_image(LAYER)
    blob = f"/v2/image/blobs/{digest(LAYER)}"
    mirror.answers[blob] = [Answer(body=LAYER, drop_at=1000), Answer(403)]
    configure(with_mirror(home, mirror))
    done = rootless("pull", "-q", f"{home.domain}/image")
    assert done.returncode == 0, done.stderr
    assert "mirror.failed" in done.stderr
    assert [seen.headers.get("Range") for seen in home.requests(blob)] == ["bytes=1000-"]


def test_blocked_registry_is_not_asked(
    rootless: CommandLine, configure: Configure, home: FakeRegistry
) -> None:
    configure(f"registries: {{hosts: {{'{home.domain}': {{blocked: true}}}}}}")
    done = rootless("pull", f"{home.domain}/image")
    assert done.returncode == 1
    assert "is blocked by the configuration" in done.stderr
    assert home.seen == []


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("entries: 10", "more than 10 entries"),
        ("depth: 1", "more than 1 components"),
        ("bytes: 5", "5 bytes that are free or allowed"),
    ],
)
def test_limits_hold(
    rootless: CommandLine, configure: Configure, home: FakeRegistry, limit: str, said: str
) -> None:
    configure(f"limits: {{{limit}}}")
    done = rootless("pull", "-q", f"{home.domain}/image")
    assert done.returncode == 1
    assert said in done.stderr
    configure("limits: {entries: 21, depth: 2, bytes: 20}")
    rootless.ok("pull", "-q", f"{home.domain}/image")


def test_names_without_a_registry(
    rootless: CommandLine, configure: Configure, home: FakeRegistry
) -> None:
    configure(f"registries: {{default-domain: '{home.domain}'}}")
    rootless.ok("pull", "-q", "image")
    assert rootless.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "image:latest\n"
    rootless.ok("rmi", "image")


def test_wrong_file_is_one_sentence(rootless: CommandLine, configure: Configure) -> None:
    configure("storage: {driver: zfs}")
    done = rootless("images")
    assert done.returncode == 1
    assert "config.yaml:1: storage.driver: expected overlay" in done.stderr


def test_driver_is_the_configured_one(
    rootless: CommandLine, configure: Configure, image: str
) -> None:
    configure("storage: {driver: copy}")
    rootless.ok("run", "--name", "box", "--network=none", image, "true")
    assert rootless.ok("inspect", "--format", "{{.Driver}}", "box") == "copy\n"
