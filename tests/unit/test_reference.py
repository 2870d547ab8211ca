# SPDX-License-Identifier: Apache-2.0
"""References: docker's normalisation as a table, and what the grammar refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import Invalid
from rootless.oci import reference

HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DIGEST = "sha256:" + HEX


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/debian:1", "docker.io/library/debian:1", "debian:1"),
        ("docker.io/a/b/c:t", "docker.io/a/b/c:t", "a/b/c:t"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("quay.io/app", "quay.io/app:latest", "quay.io/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("[fe80::1]/app", "[fe80::1]/app:latest", "[fe80::1]/app:latest"),
        ("a__b.c---d_e", "docker.io/library/a__b.c---d_e:latest", "a__b.c---d_e:latest"),
        ("app:V1.0_rc-1", "docker.io/library/app:V1.0_rc-1", "app:V1.0_rc-1"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"h.io:1/app:1@{DIGEST}", f"h.io:1/app@{DIGEST}", f"h.io:1/app@{DIGEST}"),
        ("a" * 247, "docker.io/library/" + "a" * 247 + ":latest", "a" * 247 + ":latest"),
        (HEX[1:], f"docker.io/library/{HEX[1:]}:latest", f"{HEX[1:]}:latest"),
    ],
)
def test_normalisation(text: str, canonical: str, familiar: str) -> None:
    found = reference.parse(text)
    assert (found.canonical, found.familiar) == (canonical, familiar)
    assert reference.parse(canonical) == reference.parse(familiar)


def test_parts() -> None:
    found = reference.parse(f"host.example:8443/team/app:1@{DIGEST}")
    assert (found.domain, found.path) == ("host.example:8443", "team/app")
    assert (found.tag, found.digest) == ("1", DIGEST)
    assert found.repository == found.familiar_repository == "host.example:8443/team/app"
    assert reference.parse(f"app@{DIGEST}").tag == ""
    assert reference.parse("app").digest == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (HEX, "image id"),
        ("Debian", "lower-case"),
        ("docker.io/Debian", "lower-case"),
        (":5000", "cannot be a part"),
        ("app:", "a tag has"),
        ("app:.1", "a tag has"),
        ("app:-1", "a tag has"),
        ("app:" + "1" * 129, "a tag has"),
        ("app:ta g", "a tag has"),
        ("a b", "cannot be a part"),
        ("-o", "cannot be a part"),
        ("a/../b", "cannot be a part"),
        ("../a", "host name"),
        ("a//b", "cannot be a part"),
        ("/a", "cannot be a part"),
        ("a/", "cannot be a part"),
        ("a___b", "cannot be a part"),
        ("a..b", "cannot be a part"),
        ("a._b", "cannot be a part"),
        ("_a", "cannot be a part"),
        ("a-", "cannot be a part"),
        ("büro", "cannot be a part"),
        ("xn--bro-hoa.example/büro", "cannot be a part"),
        ("a" * 248, "more than 255"),
        ("host:port/app", "host name"),
        ("host:/app", "host name"),
        ("host:99999/app", "host name"),
        ("-host.io/app", "host name"),
        ("host-.io/app", "host name"),
        ("a..io/app", "host name"),
        ("[::1/app", "host name"),
        ("[]:5/app", "host name"),
        ("[::1]x/app", "host name"),
        ("user@host.io/app", "digest"),
        ("http://host/app", "host name"),
        ("app@", "digest"),
        ("app@sha256:123", "64 lower-case hex digits"),
        (f"app@{DIGEST.upper()}", "unsupported"),
        (f"app@{DIGEST}@{DIGEST}", "hex digits"),
        (f"app@{DIGEST}:tag", "hex digits"),
        ("@" + DIGEST, "cannot be a part"),
        ("app:1\n", "a tag has"),
        ("app\0", "cannot be a part"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        reference.parse(text)
    assert reason in caught.value.message
    assert len(caught.value.message) < 1000


@settings(derandomize=True, database=None)
@given(st.text(alphabet="aA0._-/:@[]% é\n", max_size=20))
def test_what_is_accepted_is_stable(text: str) -> None:
    try:
        found = reference.parse(text)
    except Invalid:
        return
    assert reference.parse(found.canonical) == found
    assert reference.parse(found.familiar) == found
    assert ".." not in found.canonical
    assert not set(found.canonical) & set("% é\n")
