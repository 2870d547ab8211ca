# SPDX-License-Identifier: Apache-2.0
"""Whom a registry's certificate convinces, and how it is said when it does not."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import RegistryError
from rootless.images.patience import Patience
from rootless.images.registry import Registry
from tests.lib.fake_registry import Answer, FakeRegistry, digest

pytestmark = pytest.mark.needs("openssl")

QUICK = Patience(tries=1, first_wait=0, longest_wait=0, connect=5, idle=5)
# Reaches the loopback interface and yet is none of the names that are trusted without a look.
HOST = "0.0.0.0"


def certificate(directory: Path, name: str, host: str) -> tuple[Path, Path]:
    """A self-signed certificate for an address, and its key."""
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "36500", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{host}",
            "-out", paths[0], "-keyout", paths[1],
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"), "right", HOST)


@pytest.fixture
def server(pair: tuple[Path, Path]) -> Iterator[FakeRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    with FakeRegistry(HOST, context) as registry:
        registry.add_image(b"layer")
        yield registry


def fetch(server: FakeRegistry, home: Path, *, verify_tls: bool = True) -> bytes:
    registry = Registry(
        server.domain, "image", patience=QUICK, environ={"HOME": str(home)}, verify_tls=verify_tls
    )
    try:
        return registry.manifest("latest").body
    finally:
        registry.close()


def trust(home: Path, server: FakeRegistry, *files: Path) -> None:
    directory = home / ".config/containers/certs.d" / server.domain
    directory.mkdir(parents=True)
    for file in files:
        (directory / file.name).write_bytes(file.read_bytes())


def test_unknown_certificate_is_refused_and_the_way_out_is_named(
    server: FakeRegistry, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="its certificate is not trusted: self") as raised:
        fetch(server, tmp_path)
    assert f"certs.d/{server.domain}/ca.crt" in raised.value.hint
    assert not server.seen


def test_certificate_in_certs_d_is_trusted(
    server: FakeRegistry, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    trust(tmp_path, server, pair[0])
    assert digest(fetch(server, tmp_path))


def test_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    wrong = certificate(tmp_path, "wrong", "192.0.2.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*wrong)
    with FakeRegistry(HOST, context) as server:
        trust(tmp_path, server, wrong[0])
        with pytest.raises(RegistryError, match="not trusted: .*mismatch"):
            fetch(server, tmp_path)


def test_file_in_certs_d_that_is_none_is_named(server: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "junk.crt").write_text("junk")
    trust(tmp_path, server, tmp_path / "junk.crt")
    with pytest.raises(RegistryError, match=r"cannot use certificate .*junk\.crt"):
        fetch(server, tmp_path)


def test_flag_does_without_a_look_at_the_certificate(server: FakeRegistry, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, verify_tls=False)


def test_flag_prefers_tls_where_it_is_spoken(server: FakeRegistry, tmp_path: Path) -> None:
    fetch(server, tmp_path, verify_tls=False)
    assert server.seen[0].path == "/v2/"


def test_redirect_from_https_to_http_is_refused(
    server: FakeRegistry, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    trust(tmp_path, server, pair[0])
    with FakeRegistry() as plain:
        plain.add("/manifest", Answer(body=b"{}"))
        server.answers["/v2/image/manifests/latest"] = [
            Answer(307, {"Location": f"{plain.url}/manifest"})
        ]
        with pytest.raises(RegistryError, match="redirects from https to http"):
            fetch(server, tmp_path)
        assert not plain.seen


def test_token_server_without_tls_is_refused(
    server: FakeRegistry, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    trust(tmp_path, server, pair[0])
    with FakeRegistry() as plain:
        challenge = f'Bearer realm="{plain.url}/token"'
        server.answers["/v2/image/manifests/latest"] = [
            Answer(401, {"WWW-Authenticate": challenge})
        ]
        with pytest.raises(RegistryError, match="is not https"):
            fetch(server, tmp_path)
        assert not plain.seen
