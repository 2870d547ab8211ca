# SPDX-License-Identifier: Apache-2.0
"""What the shells offer: the hidden command for every position, and the real scripts in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rootless.oci import document
from rootless.storage import store
from tests.lib.command_line import program


@pytest.fixture
def filled(paths):
    """A store with one container and one image name."""
    store.open_store(paths)
    record = {"id": "a" * 64, "name": "web", "created": 1.0, "image": "debian:12", "command": []}
    os.mkdir(paths.container("a" * 64))
    Path(paths.container_record("a" * 64)).write_bytes(document.dumps(record))
    name = "docker.io/library/debian:12"
    told = {"reference": name, "image": "sha256:" + "5" * 64, "digest": ""}
    Path(paths.reference(name)).write_bytes(document.dumps(told))


def offered(rootless, *words: str) -> list[str]:
    out = rootless.ok("__complete", "--", *words)
    return [line.partition("\t")[0] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ver"], ["version"]),
        (["im"], ["images", "import", "image"]),
        (["--r"], ["--root", "--runroot"]),
        (["--root", ""], [":file"]),
        (["--root", "/x", "ver"], ["version"]),
        (["image", "l"], ["load", "ls"]),
        (["image", "nothing", ""], []),
        (["nothing", ""], []),
        (["rm", ""], ["web"]),
        (["rm", "x"], []),
        (["rm", "--f"], ["--force"]),
        (["container", "rm", "-f", "w"], ["web"]),
        (["image", "rm", "d"], ["debian:12"]),
        (["inspect", ""], ["web", "debian:12", "host"]),
        (["inspect", "--type", ""], ["container", "image"]),
        (["inspect", "--type=c"], ["--type=container"]),
        (["inspect", "-f", "x"], []),
        (["help", "ver"], ["version"]),
        (["completion", "z"], ["zsh"]),
        (["ps", "--no"], ["--no-trunc"]),
        (["run", "--rm", "h"], ["host"]),
        (["run", "--rm", "host", ""], [":file"]),
    ],
)
def test_word_is_offered(rootless, filled, words, expected):
    assert offered(rootless, *words) == expected


def test_meaning_follows_a_tab(rootless, filled):
    assert rootless.ok("__complete", "--", "rm", "w") == "web\tdebian:12 (created)\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_accepted_by_its_shell(rootless, shell):
    script = rootless.ok("completion", shell)
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}: not installed")
    flags = ["--no-execute"] if shell == "fish" else ["-n"]
    done = subprocess.run(
        [shell, *flags, "/dev/stdin"], input=script, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_offers_what_the_command_says(rootless, filled, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash: not installed")
    (tmp_path / "rootless").write_text(
        "#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in program()) + ' "$@"\n'
    )
    (tmp_path / "rootless").chmod(0o755)
    (tmp_path / "script").write_text(rootless.ok("completion", "bash"))
    ask = (
        'source "$0"; COMP_WORDS=(rootless rm -f w); COMP_CWORD=3; _rootless; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask, tmp_path / "script"],
        capture_output=True,
        text=True,
        check=True,
        env={**rootless.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout == "web\n"
