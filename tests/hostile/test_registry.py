# SPDX-License-Identifier: Apache-2.0
"""Registries that lie, drop, stall and lure: each ends in the right bytes or in one sentence."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.errors import (
    DigestMismatch,
    Incomplete,
    Interrupted,
    Invalid,
    NotFound,
    RegistryError,
    RootlessError,
    Unauthorized,
)
from rootless.images import manifests
from rootless.images.patience import Cancellation, Patience
from rootless.images.registry import Registry
from rootless.oci import digest as digests
from tests.lib.fake_registry import Answer, FakeRegistry, Seen, digest, unused_port

QUICK = Patience(first_wait=0, longest_wait=0, connect=5, idle=5, worthwhile=1 << 30)
BLOB = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def evil() -> Iterator[FakeRegistry]:
    """Somebody else's server: another host by name, and whatever arrives there was leaked."""
    with FakeRegistry("127.0.0.2") as registry:
        yield registry


@pytest.fixture
def neighbour() -> Iterator[FakeRegistry]:
    """Another port of the registry's host."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def client(server: FakeRegistry, tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    made: list[Registry] = []

    def make(*, login: bool = False, **settings: object) -> Registry:
        environ = {"HOME": str(tmp_path)}
        if login:
            write_login(tmp_path, server.domain)
        settings.setdefault("patience", QUICK)
        made.append(Registry(server.domain, "image", environ=environ, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for registry in made:
        registry.close()


def write_login(home: Path, *domains: str) -> None:
    pair = base64.b64encode(b"user:secret").decode()
    (home / ".docker").mkdir(exist_ok=True)
    config = home / ".docker" / "config.json"
    config.write_text(json.dumps({"auths": {domain: {"auth": pair} for domain in domains}}))
    config.chmod(0o600)


def blob_of(registry: Registry, data: bytes = BLOB) -> bytes:
    return b"".join(registry.blob(digests.of(data), len(data)))


def blob_path(data: bytes = BLOB) -> str:
    return f"/v2/image/blobs/{digest(data)}"


def is_one_sentence(problem: RootlessError) -> bool:
    return (
        problem.message.isprintable() and not problem.message.endswith(".") and bool(problem.hint)
    )


# -- lost connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 4096, len(BLOB) // 2, len(BLOB) - 1])
def test_blob_dropped_is_resumed(
    server: FakeRegistry, client: Callable[..., Registry], cut: int, reset: bool
) -> None:
    server.add(blob_path(), Answer(body=BLOB, drop_at=cut, reset=reset), Answer(body=BLOB))
    assert blob_of(client()) == BLOB
    assert len(server.requests(blob_path())) == 2


def test_blob_resume_asks_for_what_is_missing(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(body=BLOB, drop_at=1000), Answer(body=BLOB))
    blob_of(client())
    assert server.requests(blob_path())[1].headers["Range"] == "bytes=1000-"


def test_blob_resume_ignored_starts_over_once(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(body=BLOB, drop_at=1000), Answer(body=BLOB, ranges=False))
    assert blob_of(client()) == BLOB


def test_blob_resume_ignored_twice_is_incomplete(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(
        blob_path(),
        Answer(body=BLOB, drop_at=1000),
        Answer(body=BLOB, drop_at=5000, ranges=False),
        Answer(body=BLOB, ranges=False),
    )
    with pytest.raises(Incomplete, match="after 5000 of 1048576 bytes"):
        blob_of(client())


def test_blob_range_not_satisfiable_starts_over(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(
        blob_path(), Answer(body=BLOB, drop_at=9), Answer(416), Answer(body=BLOB, ranges=False)
    )
    assert blob_of(client()) == BLOB


@pytest.mark.parametrize(
    "told",
    ["bytes 0-1048575/1048576", "bytes 1000-1048574/1048576", "bytes 1000-", "", "junk\x1b[0m"],
)
def test_blob_resume_with_other_range_is_refused(
    server: FakeRegistry, client: Callable[..., Registry], told: str
) -> None:
    partial = Answer(206, {"Content-Range": told}, BLOB[1000:], ranges=False)
    server.add(blob_path(), Answer(body=BLOB, drop_at=1000), partial)
    with pytest.raises(RegistryError, match="cannot resume") as raised:
        blob_of(client())
    assert is_one_sentence(raised.value)


def test_blob_that_always_drops_is_incomplete(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    def drop(seen: Seen) -> Answer:
        start = int(seen.headers.get("Range", "bytes=0-")[6:-1])
        return Answer(body=BLOB, drop_at=start + 10)

    server.add(blob_path(), drop)
    with pytest.raises(Incomplete, match="after 50 of") as raised:
        blob_of(client())
    assert len(server.requests(blob_path())) == QUICK.tries
    assert is_one_sentence(raised.value)


def test_blob_shorter_than_its_descriptor_is_incomplete(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(body=BLOB[:-1], ranges=False))
    with pytest.raises(Incomplete):
        blob_of(client())


def test_blob_longer_than_its_descriptor_is_refused(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(body=BLOB + b"x"))
    with pytest.raises(DigestMismatch, match="other bytes"):
        blob_of(client())


def test_blob_without_end_is_refused(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    server.add(blob_path(), Answer(endless=True))
    with pytest.raises(DigestMismatch):
        blob_of(client())


def test_blob_content_encoding_is_not_decoded(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(headers={"Content-Encoding": "gzip"}, body=BLOB))
    assert blob_of(client()) == BLOB


@pytest.mark.parametrize("claimed", [len(BLOB) + 7, 1 << 62])
def test_blob_content_length_too_large_is_incomplete_or_whole(
    server: FakeRegistry, client: Callable[..., Registry], claimed: int
) -> None:
    server.add(blob_path(), Answer(body=BLOB, length=claimed))
    assert blob_of(client()) == BLOB  # every promised byte came; what was claimed beyond is noise


# -- overload -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failure_is_tried_again(
    server: FakeRegistry, client: Callable[..., Registry], status: int
) -> None:
    server.add(blob_path(), Answer(status), Answer(status), Answer(body=BLOB))
    assert blob_of(client()) == BLOB


@pytest.mark.parametrize(
    "after", ["3", "1000000000", "-5", "soon", "Wed, 21 Oct 2065 07:28:00 GMT"]
)
def test_overload_that_stays_is_given_up(
    server: FakeRegistry, client: Callable[..., Registry], after: str
) -> None:
    server.add("/v2/image/manifests/latest", Answer(429, {"Retry-After": after}))
    with pytest.raises(RegistryError, match="limits how often") as raised:
        client().manifest("latest")
    assert len(server.requests("/v2/image/manifests/latest")) == QUICK.tries
    assert is_one_sentence(raised.value)


def test_failure_of_the_server_is_told(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add("/v2/image/manifests/latest", Answer(500, body=b"<html>oh no</html>"))
    with pytest.raises(RegistryError, match=r"failed \(500\)$") as raised:
        client().manifest("latest")
    assert "later" in raised.value.hint


def test_waiting_ends_when_cancelled(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    cancellation = Cancellation()

    def overloaded(seen: Seen) -> Answer:
        cancellation.cancel()
        return Answer(503)

    server.add("/v2/image/manifests/latest", overloaded)
    patient = Patience(first_wait=600, longest_wait=600)
    with pytest.raises(Interrupted):
        client(patience=patient, cancellation=cancellation).manifest("latest")


def test_download_ends_when_cancelled(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    hold, cancellation = threading.Event(), Cancellation()
    server.add(blob_path(), Answer(body=BLOB, drop_at=1000, hold=hold))
    try:
        stream = client(cancellation=cancellation).blob(digests.of(BLOB), len(BLOB))
        next(stream)
        threading.Timer(0.0, cancellation.cancel).start()
        with pytest.raises(Interrupted):
            list(stream)
    finally:
        hold.set()


def test_silence_is_a_lost_connection(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    hold = threading.Event()
    server.add(blob_path(), Answer(body=BLOB, drop_at=1000, hold=hold), Answer(body=BLOB))
    try:
        impatient = Patience(first_wait=0, longest_wait=0, idle=0.05)
        assert blob_of(client(patience=impatient)) == BLOB
    finally:
        hold.set()


# -- what is not there ------------------------------------------------------------------------------


def test_unknown_manifest_is_not_found(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    with pytest.raises(NotFound, match=r"does not have it \(404\): manifest unknown") as raised:
        client().manifest("nothing")
    assert is_one_sentence(raised.value)


def test_forbidden_is_told(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    server.add("/v2/image/manifests/latest", Answer(403))
    with pytest.raises(Unauthorized, match="forbids it"):
        client().manifest("latest")


def test_unknown_host_is_told(tmp_path: Path) -> None:
    registry = Registry("no-such-host.invalid", "image", patience=QUICK, environ={})
    with pytest.raises(RegistryError, match="no such host") as raised:
        registry.manifest("latest")
    assert is_one_sentence(raised.value)


def test_refused_connection_is_told() -> None:
    with unused_port() as port:
        registry = Registry(f"127.0.0.1:{port}", "image", patience=QUICK, environ={})
        with pytest.raises(RegistryError, match="connection refused") as raised:
            registry.manifest("latest")
    assert is_one_sentence(raised.value)


def test_plain_http_elsewhere_needs_the_flag(server: FakeRegistry) -> None:
    """Not silently: only for this machine is http taken without being asked for."""
    with FakeRegistry("0.0.0.0") as other:
        other.add_image(b"layer")
        name = f"0.0.0.0:{other.port}"
        strict = Registry(name, "image", patience=QUICK, environ={})
        with pytest.raises(RegistryError, match="does not speak TLS") as raised:
            strict.manifest("latest")
        strict.close()
        assert "--tls-verify=false" in raised.value.hint
        registry = Registry(name, "image", patience=QUICK, environ={}, verify_tls=False)
        assert registry.manifest("latest").body
        registry.close()


# -- manifests --------------------------------------------------------------------------------------


def test_manifest_by_digest_with_other_bytes_is_refused(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    wanted = digest(b"{}")
    server.add(f"/v2/image/manifests/{wanted}", Answer(body=b"{ }"))
    with pytest.raises(DigestMismatch):
        client().manifest(wanted)


def test_manifest_with_wrong_digest_header_is_warned_of(
    server: FakeRegistry, client: Callable[..., Registry], capfd: pytest.CaptureFixture[str]
) -> None:
    server.add(
        "/v2/image/manifests/latest",
        Answer(headers={"Docker-Content-Digest": "sha256:\x1b[31m"}, body=b"{}"),
    )
    assert client().manifest("latest").digest == digest(b"{}")
    assert "wrong_digest_header" in capfd.readouterr().err


@pytest.mark.parametrize("answer", [Answer(body=b" " * (5 << 20)), Answer(endless=True)])
def test_manifest_too_large_is_refused(
    server: FakeRegistry, client: Callable[..., Registry], answer: Answer
) -> None:
    server.add("/v2/image/manifests/latest", answer)
    with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
        client().manifest("latest")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Please log in</html>", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "expected an object"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b'{"schemaVersion": 2, "manifests": [], "layers": []}', "ambiguous"),
        (b'{"schemaVersion": 2, "layers": [], "Layers": []}', "twice"),
        (b'{"schemaVersion": 2}', "neither"),
    ],
)
def test_manifest_that_is_none_is_invalid(
    server: FakeRegistry, client: Callable[..., Registry], body: bytes, words: str
) -> None:
    server.add_manifest(body)
    registry = client()
    with pytest.raises(Invalid, match=words):
        manifests.choose(registry.manifest("latest"), registry, None, "image")


def test_index_inside_itself_ends(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    index: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    for _ in range(6):
        name = server.add_manifest(index, "inner")
        entry = {"mediaType": INDEX, "digest": name, "size": len(json.dumps(index))}
        index = {**index, "manifests": [entry]}
    server.add_manifest(index)
    registry = client()
    with pytest.raises(Invalid, match="indexes inside each other"):
        manifests.choose(registry.manifest("latest"), registry, None, "image")


INDEX = "application/vnd.oci.image.index.v1+json"


def test_config_with_other_bytes_is_refused(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    manifest = server.add_image(b"layer")
    path = f"/v2/image/blobs/{manifest['config']['digest']}"
    server.answers[path][0] = Answer(body=b"x" * manifest["config"]["size"])
    registry = client()
    with pytest.raises(DigestMismatch):
        manifests.choose(registry.manifest("latest"), registry, None, "image")


def test_config_too_large_is_not_fetched(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    with pytest.raises(RegistryError, match="more than"):
        client().document(digests.of(b""), 1 << 40)
    assert not server.seen


def test_urls_of_foreign_layers_are_ignored(
    server: FakeRegistry, evil: FakeRegistry, client: Callable[..., Registry]
) -> None:
    manifest = server.add_image(BLOB)
    layer = {**manifest["layers"][0], "urls": [f"{evil.url}/layer"]}
    server.add_manifest({**manifest, "layers": [layer]}, "foreign")
    registry = client()
    found = manifests.choose(registry.manifest("foreign"), registry, None, "image")
    assert b"".join(registry.blob(found.layers[0].digest, found.layers[0].size)) == BLOB
    assert not evil.seen


def test_error_text_is_cleaned(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    message = "\x1b]0;owned\x07bad\r\nname\u202e" + "x" * 5000
    body = json.dumps({"errors": [{"message": message}]}).encode()
    server.add("/v2/image/manifests/latest", Answer(404, body=body))
    with pytest.raises(NotFound) as raised:
        client().manifest("latest")
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400


def test_error_body_without_end_is_cut(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add("/v2/image/manifests/latest", Answer(404, endless=True))
    with pytest.raises(NotFound):
        client().manifest("latest")


# -- redirects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_elsewhere_takes_no_credentials_along(
    server: FakeRegistry, evil: FakeRegistry, client: Callable[..., Registry], status: int
) -> None:
    challenge = Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
    redirect = Answer(
        status, {"Location": f"{evil.url}/blob", "Set-Cookie": "a=b; Domain=127.0.0.2"}
    )
    server.add(blob_path(), challenge, redirect)
    evil.add("/blob", Answer(body=BLOB))
    assert blob_of(client(login=True)) == BLOB
    assert server.requests(blob_path())[1].headers["Authorization"].startswith("Basic ")
    assert [seen.headers.keys() & {"Authorization", "Cookie"} for seen in evil.seen] == [set()]


def test_redirect_to_another_port_takes_no_credentials_along(
    server: FakeRegistry, neighbour: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(
        blob_path(),
        Answer(401, {"WWW-Authenticate": 'Basic realm="r"'}),
        Answer(307, {"Location": f"{neighbour.url}/blob"}),
    )
    neighbour.add("/blob", Answer(body=BLOB))
    assert blob_of(client(login=True)) == BLOB
    assert "Authorization" not in neighbour.seen[0].headers


def test_redirect_at_home_keeps_credentials(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(
        blob_path(),
        Answer(401, {"WWW-Authenticate": 'Basic realm="r"'}),
        Answer(307, {"Location": "/elsewhere"}),
    )
    server.add("/elsewhere", Answer(body=BLOB))
    assert blob_of(client(login=True)) == BLOB
    assert "Authorization" in server.requests("/elsewhere")[0].headers


def test_redirects_without_end_are_refused(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add(blob_path(), Answer(307, {"Location": blob_path()}))
    with pytest.raises(RegistryError, match="more than 10 redirects"):
        blob_of(client())
    assert len(server.requests(blob_path())) == 11


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[::1", "unix:/run/x"]
)
def test_redirect_to_no_web_address_is_refused(
    server: FakeRegistry, client: Callable[..., Registry], location: str
) -> None:
    server.add(blob_path(), Answer(302, {"Location": location}))
    with pytest.raises(RegistryError, match="cannot follow"):
        blob_of(client())


# -- tokens -----------------------------------------------------------------------------------------


def demand_token(server: FakeRegistry, realm: str, token: str = "t") -> None:
    """The blob and the manifests of `server` want a bearer token from `realm`."""
    server.add_image(BLOB)
    for path in list(server.answers):
        normal = server.answers[path][0]
        assert isinstance(normal, Answer)

        def guarded(seen: Seen, normal: Answer = normal) -> Answer:
            if seen.headers.get("Authorization") == f"Bearer {token}":
                return normal
            header = f'Bearer realm="{realm}",service="s",scope="repository:image:pull"'
            return Answer(401, {"WWW-Authenticate": header})

        server.answers[path] = [guarded]


def test_token_is_fetched_and_used(server: FakeRegistry, client: Callable[..., Registry]) -> None:
    demand_token(server, f"{server.url}/token")
    server.add("/token", Answer(body=b'{"token": "t", "expires_in": 0}'))
    registry = client(login=True)
    registry.manifest("latest")
    assert blob_of(registry) == BLOB
    (asked,) = server.requests("/token")
    assert "scope=repository%3Aimage%3Apull" in asked.path
    assert "service=s" in asked.path
    assert asked.headers["Authorization"].startswith("Basic ")


def test_token_that_expired_is_fetched_again(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    demand_token(server, f"{server.url}/token", "second")
    server.add("/token", Answer(body=b'{"token": "first"}'), Answer(body=b'{"token": "second"}'))
    assert blob_of(client()) == BLOB


def test_token_that_never_fits_is_given_up(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    demand_token(server, f"{server.url}/token", "never")
    server.add("/token", Answer(body=b'{"access_token": "t"}'))
    with pytest.raises(Unauthorized) as raised:
        client().manifest("latest")
    assert len(server.requests("/token")) == 2
    assert is_one_sentence(raised.value)


def test_token_server_elsewhere_gets_no_credentials(
    server: FakeRegistry, evil: FakeRegistry, client: Callable[..., Registry]
) -> None:
    demand_token(server, f"{evil.url}/token")
    evil.add("/token", Answer(body=b'{"token": "t"}'))
    assert blob_of(client(login=True)) == BLOB
    assert "Authorization" not in evil.seen[0].headers


def test_token_server_elsewhere_that_refuses_is_named(
    server: FakeRegistry, evil: FakeRegistry, client: Callable[..., Registry]
) -> None:
    demand_token(server, f"{evil.url}/token")
    evil.add("/token", Answer(401))
    with pytest.raises(Unauthorized, match="was not shown credentials"):
        client(login=True).manifest("latest")


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "gopher://x", "http:/x"])
def test_token_realm_that_is_no_address_is_refused(
    server: FakeRegistry, client: Callable[..., Registry], realm: str
) -> None:
    demand_token(server, realm)
    with pytest.raises(RegistryError):
        client().manifest("latest")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"token": 5}',
        b'{"token": "a\\r\\nX: y"}',
        b"{" * 100,
        b" " * (2 << 20),
    ],
)
def test_token_that_is_none_is_refused(
    server: FakeRegistry, client: Callable[..., Registry], body: bytes
) -> None:
    demand_token(server, f"{server.url}/token")
    server.add("/token", Answer(body=body))
    with pytest.raises(RegistryError):
        client().manifest("latest")


def test_identity_token_is_exchanged_by_post(
    server: FakeRegistry, client: Callable[..., Registry], tmp_path: Path
) -> None:
    demand_token(server, f"{server.url}/token")
    server.add("/token", Answer(body=b'{"access_token": "t"}'))
    registry = client(login=True)
    entry = {"identitytoken": "refresh me"}
    config = tmp_path / ".docker" / "config.json"
    config.write_text(json.dumps({"auths": {server.domain: entry}}))
    assert blob_of(registry) == BLOB
    (asked,) = server.requests("/token")
    assert asked.method == "POST"
    assert b"refresh_token=refresh+me" in asked.body
    assert "Authorization" not in asked.headers


def test_basic_credentials_refused_are_given_up(
    server: FakeRegistry, client: Callable[..., Registry]
) -> None:
    server.add("/v2/image/manifests/latest", Answer(401, {"WWW-Authenticate": 'Basic realm="r"'}))
    with pytest.raises(Unauthorized):
        client(login=True).manifest("latest")
    assert len(server.requests("/v2/image/manifests/latest")) == 2


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Digest realm=x", "\x00\x1b", 'Bearer realm="' + "x" * 9000]
)
def test_challenge_nobody_can_meet_is_unauthorized(
    server: FakeRegistry, client: Callable[..., Registry], header: str
) -> None:
    server.add("/v2/image/manifests/latest", Answer(401, {"WWW-Authenticate": header}))
    with pytest.raises(RegistryError):
        client().manifest("latest")
