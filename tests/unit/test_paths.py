# SPDX-License-Identifier: Apache-2.0
"""Where the store and the runtime directory are, by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import HostUnable
from rootless.paths import Paths


@pytest.mark.parametrize(
    ("environ", "data"),
    [
        ({"HOME": "/h"}, "/h/.local/share/rootless"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/x/rootless"),
        ({"HOME": "/h", "XDG_DATA_HOME": "relative"}, "/h/.local/share/rootless"),
        ({"HOME": "/h", "XDG_DATA_HOME": ""}, "/h/.local/share/rootless"),
        ({"HOME": "/h", "ROOTLESS_ROOT": "/r"}, "/r"),
        ({"ROOTLESS_ROOT": "/r/../s/"}, "/s"),
    ],
)
def test_store_is_where_the_environment_says(environ: dict[str, str], data: str) -> None:
    assert Paths.from_environment(environ).data == data


def test_flags_come_before_the_environment(tmp_path: Path) -> None:
    environ = {"ROOTLESS_ROOT": "/r", "ROOTLESS_RUN": "/s"}
    paths = Paths.from_environment(environ, data=str(tmp_path), run="/run/x")
    assert (paths.data, paths.run) == (str(tmp_path), "/run/x")
    assert Paths.from_environment(environ).run == "/s"


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_no_home_is_an_error_with_the_way_out(environ: dict[str, str]) -> None:
    with pytest.raises(HostUnable, match="HOME is not set") as failed:
        Paths.from_environment(environ)
    assert "export ROOTLESS_ROOT=" in failed.value.hint


def test_runtime_directory_is_used_only_when_it_is_ours_alone(tmp_path: Path) -> None:
    def run(directory: str) -> str:
        return Paths.from_environment({"HOME": "/h", "XDG_RUNTIME_DIR": directory}).run

    tmp_path.chmod(0o700)
    assert run(str(tmp_path)) == f"{tmp_path}/rootless"
    tmp_path.chmod(0o777)
    others = (f"/run/user/{os.getuid()}/rootless", f"/tmp/rootless-{os.getuid()}")
    for unfit in (str(tmp_path), "/", "/no/such", "relative", ""):
        assert run(unfit) in others


def test_reference_is_one_file_name_whatever_it_holds() -> None:
    paths = Paths("/d", "/r")
    names = ["docker.io/library/a:1", "docker.io%2Flibrary/a:1", "a%b", "../../x"]
    found = [paths.reference(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(os.path.dirname(path) == "/d/refs" for path in found)


def test_everything_lies_below_the_two_directories() -> None:
    paths = Paths("/d", "/r")
    for name in (n for n in dir(Paths) if isinstance(getattr(Paths, n), property)):
        assert getattr(paths, name).startswith(("/d/", "/r/")), name
    assert paths.blob("sha256:ab") == "/d/blobs/sha256/ab"
    assert paths.layer("single", "sha256:ab") == "/d/layers/single/ab"
    assert paths.image("sha256:ab") == "/d/images/ab.json"
    assert paths.state_directory("ab") == "/r/containers/ab"
