# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole, in real processes: what is asked, what is answered, how it ends."""

from __future__ import annotations

import os
import subprocess

import pytest

from rootless import __version__
from rootless.cli.main import COMMANDS, MANAGEMENT, command_options, load_command
from tests.lib.command_line import program


def test_version_is_printed_without_a_store(rootless):
    assert rootless.ok("--version") == rootless.ok("-v") == f"rootless version {__version__}\n"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_overview_names_every_command(rootless, words):
    out = rootless.ok(*words)
    for name, (_, summary, group) in COMMANDS.items():
        is_shown = group in ("Common", "Commands")
        assert (name in out and summary in out) if is_shown else (name not in out)
    assert all(name in out for name in MANAGEMENT)


@pytest.mark.parametrize("name", [name for name, (_, _, group) in COMMANDS.items() if group])
def test_help_of_a_command_names_every_flag(rootless, name):
    command = load_command(name)
    words = name.split()
    out = rootless.ok(*words, "--help")
    assert out.startswith(f"Usage:  {command.USAGE}\n")
    assert rootless.ok("help", *words) == rootless.ok("--help", *words) == out
    for option in command_options(command):
        assert all(flag in out for flag in option.names if option.help)


@pytest.mark.parametrize(
    "words", [(group, name) for group, (_, members) in MANAGEMENT.items() for name in members]
)
def test_management_spelling_is_the_plain_command(rootless, words):
    plain = MANAGEMENT[words[0]][1][words[1]]
    assert rootless.ok(*words, "--help") == rootless.ok(*plain[0].split(), "--help")


def test_management_command_alone_lists_its_commands(rootless):
    assert rootless.ok("image") == rootless.ok("image", "--help")
    assert "ls" in rootless.ok("image")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["imags"],
            1,
            "rootless: 'imags' is not a rootless command\nhint: did you mean `rootless images`?\n",
        ),
        (
            ["qqqq"],
            1,
            "rootless: 'qqqq' is not a rootless command\nhint: see `rootless --help`\n",
        ),
        (
            ["image", "lss"],
            1,
            "rootless: 'image lss' is not a rootless command\n"
            "hint: did you mean `rootless image ls`?\n",
        ),
        (
            ["ps", "--al"],
            125,
            "rootless: unknown flag: --al\nhint: did you mean --all?\n",
        ),
        (
            ["ps", "-Z"],
            125,
            "rootless: unknown shorthand flag: 'Z' in -Z\nhint: see `rootless ps --help`\n",
        ),
        (
            ["image", "ls", "--zzzzzz"],
            125,
            "rootless: unknown flag: --zzzzzz\nhint: see `rootless image ls --help`\n",
        ),
        (
            ["--roof", "/x", "ps"],
            125,
            "rootless: unknown flag: --roof\nhint: did you mean --root?\n",
        ),
        (
            ["ps", "extra"],
            1,
            "rootless: `rootless ps` takes no arguments, not 1\nhint: see `rootless ps --help`\n",
        ),
        (
            ["rm"],
            1,
            "rootless: `rootless rm` takes at least 1 argument, not 0\n"
            "hint: see `rootless rm --help`\n",
        ),
        (
            ["completion", "tcsh"],
            125,
            "rootless: no completion for the shell tcsh\nhint: choose bash, zsh, fish\n",
        ),
    ],
)
def test_mistake_is_one_sentence_and_a_hint(rootless, words, code, said):
    done = rootless(*words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_root_flag_names_the_store(rootless, tmp_path):
    out = rootless.ok("--root", tmp_path / "other", "info", "--format", "{{.StoreDirectory}}")
    assert out == f"{tmp_path / 'other'}\n"


def test_without_home_the_error_says_what_to_set(rootless):
    empty = {"HOME": "", "ROOTLESS_ROOT": "", "XDG_DATA_HOME": ""}
    done = rootless("ps", environ=empty)
    assert done.returncode == 125
    assert "HOME is not set" in done.stderr
    assert "hint: set HOME" in done.stderr


def test_reader_that_left_is_no_error(rootless):
    reading, writing = os.pipe()
    os.close(reading)
    command = rootless.start("version", stdout=writing)
    os.close(writing)
    assert command.communicate() == (None, "")
    assert command.returncode == 141


def test_full_disk_under_standard_output_is_an_error(rootless):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*program(), "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "rootless: no space left on device\n"


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_closed_descriptor_is_not_taken_by_a_file_of_ours(rootless, descriptor):
    script = f'exec "$@" {descriptor}>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *program(), "info", "--format", "{{.StoreDirectory}}"],
        capture_output=True,
        text=True,
        check=False,
        env=rootless.environ,
    )
    assert done.returncode == 0
    assert done.stdout == ("" if descriptor == 1 else rootless.paths.data + "\n")


def test_no_output_is_coloured_in_a_pipe(rootless):
    assert "\x1b" not in rootless("imags").stderr


def test_hint_is_coloured_on_a_terminal_unless_told_otherwise(rootless):
    assert b"\x1b[36mhint:\x1b[0m" in stderr_on_terminal(rootless.environ)
    assert b"\x1b" not in stderr_on_terminal({**rootless.environ, "NO_COLOR": "1"})


def stderr_on_terminal(environ: dict[str, str]) -> bytes:
    ours, theirs = os.openpty()
    try:
        subprocess.run([*program(), "imags"], stderr=theirs, check=False, env=environ)
        return os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
