# SPDX-License-Identifier: Apache-2.0
"""Challenges, token servers that may be trusted, and the credentials people already have."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import Invalid, RegistryError
from rootless.images import auth, credentials
from rootless.images.auth import Challenge, parse_challenges
from rootless.images.credentials import Credentials
from rootless.images.failures import clean
from rootless.images.patience import Patience
from rootless.images.transport import is_this_machine

# -- challenges -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="a b"'], [("basic", {"realm": "a b"})]),
        (
            ['Bearer realm="https://x/token",service="s",scope="repository:a/b:pull,push"'],
            [
                (
                    "bearer",
                    {
                        "realm": "https://x/token",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (["BEARER Realm = x , Service=y"], [("bearer", {"realm": "x", "service": "y"})]),
        (
            ['Basic realm="r", Bearer realm="q"'],
            [("basic", {"realm": "r"}), ("bearer", {"realm": "q"})],
        ),
        (["Negotiate, Basic realm=r"], [("negotiate", {}), ("basic", {"realm": "r"})]),
        ([r'Basic realm="a \"quoted\" \\ b"'], [("basic", {"realm": r'a "quoted" \ b'})]),
        (['Basic realm="a", realm="b"'], [("basic", {"realm": "a"})]),
        (["Basic", "Bearer realm=x"], [("basic", {}), ("bearer", {"realm": "x"})]),
        (['Basic realm="never closed'], [("basic", {})]),
        (["=", ",,,", '"', "\x00"], []),
    ],
)
def test_parse_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(headers) == [Challenge(*each) for each in expected]


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=4))
def test_parse_challenges_takes_anything(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme


# -- token servers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("realm", "registry", "may"),
    [
        ("https://example.org/token", "https://example.org", True),
        ("https://example.org:8443/token", "https://example.org:5000", True),
        ("https://auth.docker.io/token", "https://registry-1.docker.io", True),
        ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com", True),
        ("https://gitlab.uni.example/jwt/auth", "https://registry.uni.example", True),
        ("https://evil.example/token", "https://registry.example.org", False),
        ("https://example.org.evil.net/token", "https://example.org", False),
        ("https://evilexample.org/token", "https://registry.example.org", False),
        ("https://other.org/token", "https://example.org", False),
        ("https://org/token", "https://example.org", False),
        ("http://127.0.0.2:1/token", "http://127.0.0.1:1", False),
        ("http://localhost/token", "http://127.0.0.1", False),
        ("http://[::1]/token", "http://[::2]", False),
    ],
)
def test_credentials_go_to_relatives_only(realm: str, registry: str, may: bool) -> None:
    assert auth.may_receive_credentials(realm, registry) is may


def test_token_server_without_tls_is_refused_by_a_registry_with() -> None:
    with pytest.raises(RegistryError, match="is not https"):
        auth.check_realm("http://example.org/token", "https://example.org")
    auth.check_realm("http://example.org/token", "http://example.org")


# -- credentials ----------------------------------------------------------------------------------


def encoded(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)


def look(home: Path, domain: str = "example.org", repository: str = "a/b") -> Credentials | None:
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    return credentials.lookup(domain, repository, environ)


def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    assert look(tmp_path) is None


@pytest.mark.parametrize(
    "file", [".docker/config.json", ".config/containers/auth.json", "run/containers/auth.json"]
)
def test_files_of_docker_and_podman_are_read(tmp_path: Path, file: str) -> None:
    write(tmp_path / file, {"auths": {"example.org": encoded("me:pass:word")}})
    assert look(tmp_path) == Credentials("me", "pass:word")
    assert look(tmp_path, "other.org") is None


@pytest.mark.parametrize(
    "key",
    ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "docker.io/library"],
)
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {key: encoded("me:x")}})
    assert look(tmp_path, "docker.io", "library/debian") == Credentials("me", "x")


def test_most_specific_entry_wins(tmp_path: Path) -> None:
    entries = {"example.org": encoded("all:x"), "example.org/a": encoded("some:x")}
    write(tmp_path / ".docker/config.json", {"auths": entries})
    assert look(tmp_path) == Credentials("some", "x")
    assert look(tmp_path, repository="c") == Credentials("all", "x")


def test_file_that_login_writes_is_looked_at_first(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {"example.org": encoded("docker:x")}})
    write(
        tmp_path / ".config/containers/auth.json", {"auths": {"example.org": encoded("podman:x")}}
    )
    assert look(tmp_path) == Credentials("docker", "x")


def test_identity_token_is_kept_apart(tmp_path: Path) -> None:
    entry = {**encoded("00000000-0000-0000-0000-000000000000:"), "identitytoken": "t"}
    write(tmp_path / ".docker/config.json", {"auths": {"example.org": entry}})
    found = look(tmp_path)
    assert found is not None
    assert found.identity_token == "t"


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("me", "hunter2", "token7"))
    assert "hunter2" not in shown
    assert "token7" not in shown


@pytest.mark.parametrize(
    "document",
    [
        "no json",
        "[]",
        {"auths": {"example.org": {"auth": "%%%"}}},
        {"auths": {"example.org": {"auth": 5}}},
        '{"auths": NaN}',
    ],
)
def test_file_that_is_wrong_is_named(tmp_path: Path, document: Any) -> None:
    write(tmp_path / ".docker/config.json", document)
    with pytest.raises(Invalid, match=r"config\.json"):
        look(tmp_path)


def test_file_others_can_read_is_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {}})
    (tmp_path / ".docker/config.json").chmod(0o644)
    look(tmp_path)
    assert "chmod 600" in capfd.readouterr().err


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `test` that prints what the file beside it says."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / "docker-credential-test"
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/asked\n. {directory}/answer\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory / "answer"


@pytest.mark.parametrize(
    "config",
    [
        {"credHelpers": {"example.org": "test"}},
        {"credsStore": "test", "auths": {"example.org": {}}},
    ],
)
def test_helper_is_asked(tmp_path: Path, helper: Path, config: dict[str, Any]) -> None:
    helper.write_text("""echo '{"ServerURL": "x", "Username": "me", "Secret": "y"}'\n""")
    write(tmp_path / ".docker/config.json", config)
    assert look(tmp_path) == Credentials("me", "y")
    assert (tmp_path / "asked").read_text() == "example.org"


def test_helper_that_fails_is_passed_over(
    tmp_path: Path, helper: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    helper.write_text("echo broken; exit 1\n")
    write(tmp_path / ".docker/config.json", {"credHelpers": {"example.org": "test"}})
    assert look(tmp_path) is None
    assert "broken" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["../../bin/sh", "", "a b", "missing"])
def test_helper_that_is_none_is_passed_over(tmp_path: Path, name: str) -> None:
    write(tmp_path / ".docker/config.json", {"credHelpers": {"example.org": name}})
    assert look(tmp_path) is None


# -- small rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("", False),
        ("localhost.example.org", False),
        ("127.example.org", False),
        ("128.0.0.1", False),
        ("example.org", False),
    ],
)
def test_only_this_machine_is_this_machine(host: str, ours: bool) -> None:
    assert is_this_machine(host) is ours


@pytest.mark.parametrize(
    ("header", "attempt", "expected"),
    [
        (None, 1, 1.0),
        (None, 4, 8.0),
        (None, 20, 60.0),
        ("7", 1, 7.0),
        ("0", 3, 0.0),
        ("999999999999999999999", 1, 60.0),
        ("-1", 1, 1.0),
        ("garbage", 2, 2.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1, 0.0),
        ("Wed, 21 Oct 2065 07:28:00 GMT", 1, 60.0),
    ],
)
def test_wait_before_trying_again(header: str | None, attempt: int, expected: float) -> None:
    assert Patience().wait_before(attempt, header) == expected


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(max_size=3000))
def test_clean_text_is_printable_and_short(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) <= 200
