# SPDX-License-Identifier: Apache-2.0
"""Instructions of `import --change`."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import UsageError
from rootless.images import changes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("CMD ls -l", {"Cmd": ["/bin/sh", "-c", "ls -l"]}),
        ('cmd ["ls", "-l"]', {"Cmd": ["ls", "-l"]}),
        ("CMD [ not json", {"Cmd": ["/bin/sh", "-c", "[ not json"]}),
        ('ENTRYPOINT ["a"]', {"Entrypoint": ["a"]}),
        ("ENV A=1 B=2", {"Env": ["A=1", "B=2"]}),
        ("ENV A=", {"Env": ["A="]}),
        ("ENV A one two", {"Env": ["A=one two"]}),
        ('ENV A="x y"', {"Env": ["A=x y"]}),
        ("EXPOSE 80 8000-8010/udp", {"ExposedPorts": {"80/tcp": {}, "8000-8010/udp": {}}}),
        ("LABEL a=b c=d", {"Labels": {"a": "b", "c": "d"}}),
        ("USER nobody", {"User": "nobody"}),
        ('VOLUME ["/a", "/b"]', {"Volumes": {"/a": {}, "/b": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("WORKDIR here", {"WorkingDir": "/here"}),
    ],
)
def test_change_is_applied(change: str, expected: dict[str, Any]) -> None:
    assert changes.apply([change], {}) == expected


def test_changes_add_up_and_the_config_given_stays() -> None:
    before = {"Env": ["A=1", "B=2"], "Labels": {"a": "b"}}
    after = changes.apply(["ENV A=3", "LABEL c=d"], before)
    assert after == {"Env": ["A=3", "B=2"], "Labels": {"a": "b", "c": "d"}}
    assert before == {"Env": ["A=1", "B=2"], "Labels": {"a": "b"}}


@pytest.mark.parametrize(
    "change",
    [
        "",
        "RUN true",
        "CMD",
        "ENV",
        "ENV A",
        "ENV =x",
        'ENV A="x',
        "LABEL a=b c",
        "EXPOSE http",
        "EXPOSE 80/x",
    ],
)
def test_change_that_is_none_is_refused(change: str) -> None:
    with pytest.raises(UsageError):
        changes.apply([change], {})
