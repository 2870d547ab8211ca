# SPDX-License-Identifier: Apache-2.0
"""Keeping credentials: docker's config.json stays what it was but for one entry, and helpers are obeyed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.login import domain_of
from rootless.errors import HostUnable, Invalid, RootlessError, Unauthorized, UsageError
from rootless.images import credentials, login
from rootless.images.credentials import Credentials
from tests.lib.fake_registry import Answer, FakeRegistry, Seen

ME = Credentials("me", "pass:word")
HOST = "example.org"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / ".docker" / "config.json"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `test` that keeps what it is given in the directory `kept`."""
    kept = tmp_path / "kept"
    kept.mkdir()
    script = tmp_path / "docker-credential-test"
    script.write_text(
        f"""#!/bin/sh
case $1 in
store) cat > {kept}/secret ;;
get) if [ -f {kept}/secret ]; then cat {kept}/secret; else echo not found; exit 1; fi ;;
erase) cat > {kept}/erased; rm -f {kept}/secret ;;
esac
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return kept


# -- the file ---------------------------------------------------------------------------------------


def test_kept_credentials_are_found_again(config: Path, environ: dict[str, str]) -> None:
    kept = login.keep(HOST, ME, environ)
    assert (kept.path, kept.helper) == (str(config), "")
    assert credentials.lookup(HOST, "a/b", environ) == ME
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text()) == {"auths": {HOST: {"auth": "bWU6cGFzczp3b3Jk"}}}
    assert os.listdir(config.parent) == ["config.json"]


def test_foreign_keys_stay(config: Path, environ: dict[str, str]) -> None:
    before = {
        "auths": {"other.org": {"auth": "YTpi", "email": "x"}},
        "psFormat": "table {{.ID}}",
        "plugins": {"a": {"b": "c"}},
        "HttpHeaders": {"X": "ü"},
    }
    write(config, before)
    login.keep(HOST, ME, environ)
    found = json.loads(config.read_text())
    assert found.pop("auths").pop("other.org") == before["auths"]["other.org"]  # type: ignore[index]
    assert found == {key: value for key, value in before.items() if key != "auths"}
    login.forget(HOST, environ)
    assert json.loads(config.read_text()) == before


def test_docker_hub_is_called_what_docker_calls_it(config: Path, environ: dict[str, str]) -> None:
    login.keep("docker.io", ME, environ)
    assert list(json.loads(config.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert credentials.lookup("docker.io", "library/debian", environ) == ME
    assert login.forget("docker.io", environ)
    assert credentials.lookup("docker.io", "library/debian", environ) is None


def test_identity_token_takes_the_place_of_the_password(
    config: Path, environ: dict[str, str]
) -> None:
    login.keep(HOST, Credentials("me", identity_token="token"), environ)
    assert json.loads(config.read_text())["auths"][HOST]["identitytoken"] == "token"
    assert credentials.lookup(HOST, "", environ) == Credentials("me", "", "token")


@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"])
def test_environment_names_the_file(tmp_path: Path, environ: dict[str, str], variable: str) -> None:
    place = tmp_path / "elsewhere"
    environ[variable] = str(place if variable == "DOCKER_CONFIG" else place / "config.json")
    assert login.keep(HOST, ME, environ).path == str(place / "config.json")
    assert credentials.lookup(HOST, "", environ) == ME


def test_symbolic_link_stays_one(config: Path, environ: dict[str, str], tmp_path: Path) -> None:
    config.parent.mkdir()
    config.symlink_to(tmp_path / "real.json")
    login.keep(HOST, ME, environ)
    assert config.is_symlink()
    assert HOST in (tmp_path / "real.json").read_text()


@pytest.mark.parametrize("document", ["no json", "[]", {"auths": []}])
def test_file_that_is_wrong_is_left_alone(
    config: Path, environ: dict[str, str], document: Any
) -> None:
    write(config, document)
    before = config.read_bytes()
    with pytest.raises(Invalid, match=r"config\.json"):
        login.keep(HOST, ME, environ)
    assert config.read_bytes() == before


def test_forgetting_what_is_not_there_changes_nothing(
    config: Path, environ: dict[str, str]
) -> None:
    assert not login.forget(HOST, environ)
    assert not config.exists()


def test_without_a_home_there_is_no_file() -> None:
    with pytest.raises(HostUnable, match="HOME is not set"):
        login.keep(HOST, ME, {})


# -- helpers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_helper_keeps_the_secret(
    config: Path, environ: dict[str, str], helper: Path, key: str
) -> None:
    write(config, {key: "test" if key == "credsStore" else {HOST: "test"}})
    assert login.keep(HOST, ME, environ).helper == "test"
    assert json.loads((helper / "secret").read_text()) == {
        "ServerURL": HOST, "Username": "me", "Secret": "pass:word"
    }  # fmt: skip
    assert json.loads(config.read_text())["auths"] == {HOST: {}}
    assert "pass" not in config.read_text()
    assert credentials.lookup(HOST, "", environ) == ME
    assert login.forget(HOST, environ)
    assert (helper / "erased").read_text() == HOST
    assert credentials.lookup(HOST, "", environ) is None


def test_helper_keeps_a_token(config: Path, environ: dict[str, str], helper: Path) -> None:
    write(config, {"credsStore": "test"})
    login.keep(HOST, Credentials("me", identity_token="t"), environ)
    assert json.loads((helper / "secret").read_text())["Username"] == "<token>"
    assert credentials.lookup(HOST, "", environ) == Credentials("", identity_token="t")


@pytest.mark.parametrize("name", ["missing", "../../bin/sh"])
def test_helper_that_is_none_is_one_sentence(
    config: Path, environ: dict[str, str], name: str
) -> None:
    write(config, {"credsStore": name})
    with pytest.raises(HostUnable, match="there is no program docker-credential-"):
        login.keep(HOST, ME, environ)


def test_helper_that_refuses_is_quoted(config: Path, environ: dict[str, str], helper: Path) -> None:
    (helper.parent / "docker-credential-test").write_text("#!/bin/sh\necho locked; exit 1\n")
    write(config, {"credsStore": "test"})
    with pytest.raises(RootlessError, match="locked"):
        login.keep(HOST, ME, environ)


# -- trying -----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Any:
    with FakeRegistry() as registry:
        yield registry


def test_basic_credentials_are_tried(server: FakeRegistry, environ: dict[str, str]) -> None:
    def script(seen: Seen) -> Answer:
        if seen.headers.get("Authorization") == ME.basic:
            return Answer(200)
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    server.add("/v2/", script)
    assert login.verify(server.domain, ME, environ=environ) == ME
    with pytest.raises(Unauthorized, match="cannot log in to"):
        login.verify(server.domain, Credentials("me", "wrong"), environ=environ)


@pytest.mark.parametrize("kept", ["", "identity"])
def test_token_server_may_give_a_token_to_keep(
    server: FakeRegistry, environ: dict[str, str], kept: str
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'}
    server.add(
        "/v2/",
        lambda seen: (
            Answer(200)
            if seen.headers.get("Authorization") == "Bearer t"
            else Answer(401, challenge)
        ),
    )
    answer = {"token": "t", **({"refresh_token": kept} if kept else {})}
    server.add("/token", Answer(body=json.dumps(answer).encode()))
    found = login.verify(server.domain, ME, environ=environ)
    assert found == (Credentials("me", identity_token="identity") if kept else ME)
    (asked,) = server.requests("/token")
    assert "offline_token=true" in asked.path
    assert asked.headers["Authorization"] == ME.basic


def test_registry_that_needs_no_login_takes_any(
    server: FakeRegistry, environ: dict[str, str]
) -> None:
    server.add("/v2/", Answer(200))
    assert login.verify(server.domain, ME, environ=environ) == ME


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://example.org/v2/", "example.org"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_server_is_a_host_whatever_was_typed(text: str, expected: str) -> None:
    assert domain_of([text] if text else []) == expected


@pytest.mark.parametrize("text", ["a b", "-x", "host:port", "host:99999"])
def test_server_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid registry"):
        domain_of([text])
