# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what they may say, how they add up, and how they are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless import configuration
from rootless.errors import Invalid
from rootless.images import mirrors
from rootless.oci import reference


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "rootless").mkdir()
    return {"XDG_CONFIG_HOME": str(tmp_path), "ROOTLESS_SITE_CONFIG": str(tmp_path / "site.yaml")}


def write(environ: dict[str, str], text: str) -> Path:
    path = Path(environ["XDG_CONFIG_HOME"], "rootless", "config.yaml")
    path.write_text(text)
    return path


def test_no_file_is_no_setting(environ: dict[str, str]) -> None:
    settings = configuration.load(environ)
    assert settings.default_domain == "docker.io"
    assert settings.driver == ""
    assert settings.host("docker.io") == {}
    assert settings.limit("entries", 7) == 7


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "limits:\n", "registries: {hosts: }"])
def test_file_may_say_nothing(environ: dict[str, str], text: str) -> None:
    write(environ, text)
    assert configuration.load(environ).limit("entries", 7) == 7


def test_user_counts_more_than_site(environ: dict[str, str]) -> None:
    Path(environ["ROOTLESS_SITE_CONFIG"]).write_text(
        "registries:\n  hosts:\n    a.example: {insecure: true, mirrors: [one, two]}\n"
        "limits: {entries: 5, depth: 6}\n"
    )
    write(environ, "registries: {hosts: {a.example: {mirrors: three}}}\nlimits: {entries: 1k}\n")
    settings = configuration.load(environ)
    assert settings.host("a.example") == {"insecure": True, "mirrors": ["three"]}
    assert (settings.limit("entries", 0), settings.limit("depth", 0)) == (1024, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("storage:\n  driver: zfs\n", r":2: storage.driver: expected overlay or .* not 'zfs'"),
        ("colour: red\n", r":1: colour: no such setting"),
        ("limits:\n\n  entries: many\n", r":3: limits.entries: expected a number, not 'many'"),
        ("limits: {depth: 5000}", r":1: limits.depth: expected 1 to 1024, not 5000"),
        ("limits: [1]", r":1: limits: expected a mapping"),
        ("limits: {entries: {}}", r":1: limits.entries: expected a text"),
        ("limits: {entries: 1, entries: 2}", r":1: limits.entries: stands here twice"),
        (
            "registries:\n  hosts:\n    x:\n      insecure: maybe\n",
            r":4: registries.hosts.x.insecure",
        ),
        ("registries: {hosts: {x: {insecure: 'true'}}}", r"expected true or false"),
        ("registries: {hosts: {x: {ca: cert.pem}}}", r"expected an absolute path"),
        ("registries: {hosts: {x: {ca: }}}", r"expected a text"),
        ("? [a]\n: b\n", r":1: a key must be a word"),
        ("a: b: c\n", r":1: not YAML"),
        ("a: [\n", r":2: not YAML"),
        ("\tx", r":1: not YAML"),
        ("a: *b\n", r":1: not YAML"),
        ("--- a\n--- b\n", r"not YAML"),
        ("!!python/object/apply:os.system [echo]", r"expected a mapping"),
        ("proxies: {http: !!python/name:os.system x}", None),
    ],
)
def test_wrong_file_is_refused_by_line_and_key(
    environ: dict[str, str], text: str, said: str | None
) -> None:
    path = write(environ, text)
    if said is None:  # a text like any other: nothing is made of the tag
        assert configuration.load(environ).proxies == {"http": "x"}
        return
    with pytest.raises(Invalid, match=f"^{path}{said}" if said.startswith(":") else said):
        configuration.load(environ)


def test_aliases_and_depth_are_bounded(environ: dict[str, str]) -> None:
    lines = ["a0: &a0 {mirrors: [x, x, x, x, x, x, x, x]}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    write(environ, "\n".join(lines))
    with pytest.raises(Invalid):
        configuration.load(environ)
    write(environ, "a: " + "[" * 5000)
    with pytest.raises(Invalid, match="not YAML"):
        configuration.load(environ)
    bomb = "registries: {hosts: {" + ", ".join(f"h{n}: &h{n} {{}}" for n in range(20_000)) + "}}"
    write(environ, bomb)
    with pytest.raises(Invalid, match="too much of it"):
        configuration.load(environ)


def test_file_others_may_write_is_not_trusted(environ: dict[str, str]) -> None:
    path = write(environ, "limits: {entries: 5}")
    path.chmod(0o666)
    with pytest.raises(Invalid, match="others may write to it"):
        configuration.load(environ)


def test_large_or_odd_file_is_refused(environ: dict[str, str]) -> None:
    path = write(environ, "#" * (2 << 20))
    with pytest.raises(Invalid, match="larger than"):
        configuration.load(environ)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="not UTF-8"):
        configuration.load(environ)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Invalid, match="not a file"):
        configuration.load(environ)


def test_parsed_once_and_then_cached(environ: dict[str, str], tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    path = write(environ, "limits: {entries: 5}")
    assert configuration.load(environ, run=run).limit("entries", 0) == 5
    cache = Path(run, "configuration.json")
    assert cache.stat().st_mode & 0o777 == 0o600
    cache.write_text(cache.read_text().replace('"entries":5', '"entries":6'))
    configuration._latest = ([], configuration.Settings({}))
    assert configuration.load(environ, run=run).limit("entries", 0) == 6  # the cache was believed
    path.write_text("limits: {entries: 77}")
    assert configuration.load(environ, run=run).limit("entries", 0) == 77
    cache.write_text("junk")
    configuration._latest = ([], configuration.Settings({}))
    assert configuration.load(environ, run=run).limit("entries", 0) == 77


def test_mirrors_come_before_the_registry(environ: dict[str, str]) -> None:
    write(environ, "registries: {hosts: {docker.io: {mirrors: [m.example, n.example/p/]}}}")
    assert mirrors.sources(reference.parse("debian"), environ) == [
        ("m.example", "library/debian"),
        ("n.example", "p/library/debian"),
        ("docker.io", "library/debian"),
    ]


@pytest.fixture
def default_domain() -> Iterator[None]:
    yield
    reference.use_default_domain("docker.io")


@pytest.mark.usefixtures("default_domain")
def test_names_without_a_registry_follow_the_default() -> None:
    reference.use_default_domain("quay.example:5000")
    assert reference.parse("tools/box").canonical == "quay.example:5000/tools/box:latest"
    assert reference.parse("box").familiar == "box:latest"
    assert reference.parse("docker.io/library/box").familiar == "docker.io/library/box:latest"
    with pytest.raises(Invalid, match="not a registry"):
        reference.use_default_domain("no domain")
