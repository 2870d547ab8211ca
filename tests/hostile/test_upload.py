# SPDX-License-Identifier: Apache-2.0
"""Registries that drop, refuse and lure while they are written to: the right bytes arrive, or one sentence."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rootless.errors import Incomplete, RegistryError, RootlessError, Unauthorized
from rootless.images import upload
from rootless.images.patience import Patience
from rootless.images.registry import Registry
from rootless.images.upload import Outgoing, Repository
from rootless.oci import digest as digests
from tests.lib.fake_registry import MANIFEST, Answer, FakeRegistry, Seen, Uploads, digest

QUICK = Patience(tries=3, first_wait=0, longest_wait=0, connect=5, idle=5, commit=5)
BLOB = bytes(range(256)) * 4096  # 1 MiB
PIECE = 300_000


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def evil() -> Iterator[FakeRegistry]:
    """Somebody else's server, reached by another name."""
    with FakeRegistry("127.0.0.2") as registry:
        yield registry


@pytest.fixture
def target(server: FakeRegistry, tmp_path: Path) -> Iterator[Repository]:
    """The repository to write to, by somebody who is logged in."""
    pair = base64.b64encode(b"user:secret").decode()
    config = tmp_path / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {server.domain: {"auth": pair}}}))
    config.chmod(0o600)
    environ = {"HOME": str(tmp_path)}
    registry = Registry(server.domain, "image", patience=QUICK, environ=environ, verb="push")
    yield Repository(registry)
    registry.close()


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs of this size go in pieces."""
    monkeypatch.setattr(upload, "WHOLE", 1000)
    monkeypatch.setattr(upload, "PIECE", PIECE)
    monkeypatch.setattr(upload, "LEAST_PIECE", 10_000)


def stream(data: bytes, offset: int) -> io.BytesIO:
    return io.BytesIO(data[offset:])


def send(target: Repository, data: bytes = BLOB, begun: str = "") -> int:
    """Send a blob; the sum of what the watcher was told."""
    told: list[int] = []
    target.send(Outgoing(digests.of(data), len(data), partial(stream, data)), begun, told.append)
    return sum(told)


def assert_one_sentence(problem: RootlessError) -> None:
    assert problem.message.startswith("cannot ")
    assert problem.message.isprintable()
    assert not problem.message.endswith(".")
    assert problem.hint


# -- the right bytes --------------------------------------------------------------------------------


def test_small_blob_goes_in_one_request(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()
    assert send(target) == len(BLOB)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert [each.method for each in server.seen if each.method != "GET"] == ["POST", "PUT"]


@pytest.mark.usefixtures("in_pieces")
def test_large_blob_goes_in_pieces(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()
    assert send(target) == len(BLOB)
    assert uploads.blobs == {digest(BLOB): BLOB}
    pieces = server.requests(uploads.session, "PATCH")
    assert [each.headers["Content-Range"] for each in pieces] == [
        "0-299999", "300000-599999", "600000-899999", "900000-1048575"
    ]  # fmt: skip
    # The state that each answer gave comes back in the next request.
    assert [each.path.partition("=")[2] for each in pieces] == ["0", "300000", "600000", "900000"]


@pytest.mark.parametrize("cut", [0, 1, 65536, len(BLOB) - 1])
def test_whole_blob_that_is_cut_goes_again(
    server: FakeRegistry, target: Repository, cut: int
) -> None:
    uploads = server.takes_uploads()
    server.cut_after = cut
    assert send(target) == len(BLOB)
    assert uploads.blobs == {digest(BLOB): BLOB}


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("kept", [0, 1000, 123_456])
def test_piece_that_is_cut_goes_on_where_the_registry_is(
    server: FakeRegistry, target: Repository, kept: int
) -> None:
    uploads = server.takes_uploads()

    def keep(seen: Seen) -> None:
        uploads.received += seen.body[:kept]

    server.on_cut, server.cut_after = keep, 200_000
    assert send(target) == len(BLOB)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert (
        server.requests(uploads.session, "PATCH")[1].headers["Content-Range"].startswith(f"{kept}-")
    )


@pytest.mark.usefixtures("in_pieces")
def test_registry_that_took_half_a_piece_gets_the_rest(
    server: FakeRegistry, target: Repository
) -> None:
    uploads = server.takes_uploads()

    def half(seen: Seen) -> Answer:
        uploads.received += seen.body[: len(seen.body) // 2]
        return Answer(202, {"Location": uploads.session, "Range": f"0-{len(uploads.received) - 1}"})

    server.answers[f"PATCH {uploads.session}"] = [half, uploads.piece]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}


@pytest.mark.usefixtures("in_pieces")
def test_piece_out_of_order_is_asked_about(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()

    def lose(seen: Seen) -> Answer:
        uploads.received.clear()  # as a registry does that restarts
        return uploads.piece(seen)

    server.answers[f"PATCH {uploads.session}"] = [uploads.piece, lose, uploads.piece]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}


@pytest.mark.usefixtures("in_pieces")
def test_session_that_is_forgotten_begins_anew_once(
    server: FakeRegistry, target: Repository
) -> None:
    uploads = server.takes_uploads()
    server.answers[f"PATCH {uploads.session}"] = [uploads.piece, Answer(404), uploads.piece]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}
    server.answers[f"PATCH {uploads.session}"] = [Answer(404)]
    with pytest.raises(RegistryError, match=r"cannot push .* \(404\)"):
        send(target)


@pytest.mark.usefixtures("in_pieces")
def test_piece_that_is_too_large_becomes_smaller(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()

    def small_only(seen: Seen) -> Answer:
        return uploads.piece(seen) if len(seen.body) <= 80_000 else Answer(413)

    server.answers[f"PATCH {uploads.session}"] = [small_only]
    assert send(target) == len(BLOB)
    assert uploads.blobs == {digest(BLOB): BLOB}


def test_whole_blob_that_is_too_large_goes_in_pieces(
    server: FakeRegistry, target: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "LEAST_PIECE", 10_000)
    uploads = server.takes_uploads()
    server.answers[f"PUT {uploads.session}"] = [Answer(413), uploads.end]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}


@pytest.mark.usefixtures("in_pieces")
def test_overloaded_registry_is_waited_for(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()
    again = Answer(429, {"Retry-After": "0"})
    server.answers[f"PATCH {uploads.session}"] = [again, Answer(503), uploads.piece]
    server.answers[f"PUT {uploads.session}"] = [again, uploads.end]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}


@pytest.mark.usefixtures("in_pieces")
def test_end_whose_answer_is_lost_counts_when_the_blob_is_there(
    server: FakeRegistry, target: Repository
) -> None:
    uploads = server.takes_uploads()
    server.answers[f"PUT {uploads.session}"] = [Answer(201, body=b"x" * 10, drop_at=-1, reset=True)]
    server.add(f"HEAD /v2/image/blobs/{digest(BLOB)}", Answer(200))
    send(target)


def test_connection_that_is_always_cut_is_one_sentence(
    server: FakeRegistry, target: Repository
) -> None:
    server.takes_uploads()

    def again(_seen: Seen) -> None:
        server.cut_after = 1000

    server.on_cut, server.cut_after = again, 1000
    with pytest.raises(Incomplete, match=r"cannot upload sha256:.* of 1048576 bytes") as raised:
        send(target)
    assert_one_sentence(raised.value)


# -- one sentence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, r"\(?400\)?|status 400"),
        (401, r"\(401\)"),
        (403, r"\(403\): quota"),
        (404, r"\(404\)"),
        (405, r"\(405\)"),
        (413, r"\(413\)"),
        (429, r"\(429\)"),
        (500, r"\(500\)"),
        (507, r"\(507\)"),
        (302, r"302"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_refusal_is_one_sentence(
    server: FakeRegistry, target: Repository, method: str, status: int, said: str
) -> None:
    uploads = server.takes_uploads()
    where = uploads.base if method == "POST" else uploads.session
    body = json.dumps({"errors": [{"code": "DENIED", "message": "quota\x1b[31m"}]}).encode()
    server.answers[f"{method} {where}"] = [Answer(status, body=body)]
    small = b"x" * 1000
    with (
        pytest.raises(RegistryError, match=said)
        if status != 404
        else pytest.raises(RootlessError, match=said) as raised
    ):
        send(target, small)
    assert_one_sentence(raised.value)
    assert raised.value.message.startswith("cannot push ")


@pytest.mark.parametrize(
    "location", ["", "file:///etc/passwd", "http://", "ftp://x/y", "//[::1", "http://x:99999/"]
)
def test_answer_without_a_usable_location_is_one_sentence(
    server: FakeRegistry, target: Repository, location: str
) -> None:
    headers = {"Location": location} if location else {}
    server.add("POST /v2/image/blobs/uploads/", Answer(202, headers))
    with pytest.raises(RegistryError) as raised:
        send(target)
    assert_one_sentence(raised.value)


def test_manifest_that_is_refused_is_one_sentence(server: FakeRegistry, target: Repository) -> None:
    body = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
    server.add("PUT /v2/image/manifests/latest", Answer(400, body=body))
    with pytest.raises(RegistryError, match=r":latest: .*400: manifest invalid") as raised:
        target.put_manifest("latest", b"{}", MANIFEST)
    assert_one_sentence(raised.value)


# -- credentials ------------------------------------------------------------------------------------


def guarded(answer: Callable[[Seen], Answer] | Answer) -> Callable[[Seen], Answer]:
    """That answer for who shows credentials, a challenge for who does not."""

    def script(seen: Seen) -> Answer:
        if not seen.headers.get("Authorization", "").startswith("Basic "):
            return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        return answer if isinstance(answer, Answer) else answer(seen)

    return script


def foreign(server: FakeRegistry, evil: FakeRegistry) -> Uploads:
    """The registry hands uploads to somebody else."""
    uploads = evil.takes_uploads()
    elsewhere = Answer(202, {"Location": evil.url + uploads.session})
    server.add("POST /v2/image/blobs/uploads/", guarded(elsewhere))
    return uploads


def test_foreign_location_gets_the_bytes_and_no_credentials(
    server: FakeRegistry, evil: FakeRegistry, target: Repository
) -> None:
    uploads = foreign(server, evil)
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert evil.seen
    assert not any("Authorization" in each.headers for each in evil.seen)


@pytest.mark.usefixtures("in_pieces")
def test_foreign_location_in_pieces_gets_no_credentials(
    server: FakeRegistry, evil: FakeRegistry, target: Repository
) -> None:
    uploads = foreign(server, evil)
    evil.cut_after = 100_000
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert not any("Authorization" in each.headers for each in evil.seen)


def test_foreign_location_that_wants_credentials_is_refused(
    server: FakeRegistry, evil: FakeRegistry, target: Repository
) -> None:
    uploads = foreign(server, evil)
    challenge = {"WWW-Authenticate": f'Bearer realm="{evil.url}/token"'}
    evil.answers[f"PUT {uploads.session}"] = [Answer(401, challenge)]
    with pytest.raises(Unauthorized) as raised:
        send(target)
    assert_one_sentence(raised.value)
    assert evil.requests("/token") == []
    assert not any("Authorization" in each.headers for each in evil.seen)


def test_redirected_begin_takes_no_credentials_along(
    server: FakeRegistry, evil: FakeRegistry, target: Repository
) -> None:
    uploads = evil.takes_uploads()
    away = Answer(307, {"Location": evil.url + uploads.base})
    server.add("POST /v2/image/blobs/uploads/", guarded(away))
    evil.answers[f"POST {uploads.base}"] = [Answer(202, {"Location": evil.url + uploads.session})]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert not any("Authorization" in each.headers for each in evil.seen)


@pytest.mark.usefixtures("in_pieces")
def test_token_that_ends_in_the_middle_is_renewed(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'}
    tokens = iter(["one", "two", "three"])
    server.add("/token", lambda _seen: Answer(body=json.dumps({"token": next(tokens)}).encode()))
    valid = ["Bearer one"]

    def checked(answer: Callable[[Seen], Answer]) -> Callable[[Seen], Answer]:
        def script(seen: Seen) -> Answer:
            if seen.headers.get("Authorization") != valid[0]:
                return Answer(401, challenge)
            if seen.method == "PATCH":
                valid[0] = "Bearer two"
            return answer(seen)

        return script

    for method, path, answer in (
        ("POST", uploads.base, uploads.begin),
        ("PATCH", uploads.session, uploads.piece),
        ("GET", uploads.session, uploads.status),
        ("PUT", uploads.session, uploads.end),
    ):
        server.answers[f"{method} {path}"] = [checked(answer)]
    send(target)
    assert uploads.blobs == {digest(BLOB): BLOB}
    scopes = [each.path for each in server.requests("/token")]
    assert all("scope=repository%3Aimage%3Apull%2Cpush" in path for path in scopes)


# -- blobs of other repositories --------------------------------------------------------------------


def test_mount_takes_a_blob_from_a_neighbour(server: FakeRegistry, target: Repository) -> None:
    server.add("POST /v2/image/blobs/uploads/", Answer(201))
    assert target.mount(digest(BLOB), ["other"]) == ("other", "")
    (seen,) = server.requests("/v2/image/blobs/uploads/")
    assert seen.path.endswith(f"?mount={digest(BLOB).replace(':', '%3A')}&from=other")


def test_mount_that_becomes_an_upload_is_used(server: FakeRegistry, target: Repository) -> None:
    uploads = server.takes_uploads()
    found, begun = target.mount(digest(BLOB), ["other"])
    assert found == ""
    send(target, begun=begun)
    assert uploads.blobs == {digest(BLOB): BLOB}
    assert len(server.requests(uploads.base)) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
def test_mount_that_is_refused_is_no_failure(
    server: FakeRegistry, target: Repository, status: int
) -> None:
    server.add("POST /v2/image/blobs/uploads/", Answer(status))
    assert target.mount(digest(BLOB), ["other"]) == ("", "")


def test_mount_asks_for_a_token_for_both_repositories(
    server: FakeRegistry, target: Repository
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}
    server.add("POST /v2/image/blobs/uploads/", Answer(401, challenge), Answer(201))
    server.add("/token", Answer(body=b'{"token": "t"}'))
    assert target.mount(digest(BLOB), ["other"])[0] == "other"
    (seen,) = server.requests("/token")
    assert "scope=repository%3Aimage%3Apull%2Cpush&scope=repository%3Aother%3Apull" in seen.path
