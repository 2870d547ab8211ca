# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line, form by form, and a round trip of any values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.cli.options import Option, parse
from rootless.errors import UsageError

OPTIONS = (
    Option("--env", "-e", value="list", many=True),
    Option("--interactive", "-i"),
    Option("--name", value="string"),
    Option("--pull", value="string", default="missing", choices=("always", "missing", "never")),
    Option("--rm"),
    Option("--tty", "-t"),
    Option("--verify", default="true"),
    Option("--workdir", "-w", value="string"),
    Option("-x"),
)
ABSENT = {
    "env": [],
    "interactive": False,
    "name": None,
    "pull": "missing",
    "rm": False,
    "tty": False,
    "verify": True,
    "workdir": None,
    "x": False,
}


@pytest.mark.parametrize(
    ("argv", "changed", "rest"),
    [
        ("", {}, []),
        ("--name a", {"name": "a"}, []),
        ("--name=a", {"name": "a"}, []),
        ("--name=", {"name": ""}, []),
        ("--name=a=b", {"name": "a=b"}, []),
        ("--name a --name b", {"name": "b"}, []),
        ("--name --rm", {"name": "--rm"}, []),
        ("--name -- x", {"name": "--"}, ["x"]),
        ("-w /x", {"workdir": "/x"}, []),
        ("-w/x", {"workdir": "/x"}, []),
        ("-w=/x", {"workdir": "/x"}, []),
        ("-it", {"interactive": True, "tty": True}, []),
        ("-itw/x", {"interactive": True, "tty": True, "workdir": "/x"}, []),
        ("-itw /x", {"interactive": True, "tty": True, "workdir": "/x"}, []),
        ("-it=false", {"interactive": True}, []),
        ("-e A=1 -eB=2 -e=C=3 --env D --env=E=", {"env": ["A=1", "B=2", "C=3", "D", "E="]}, []),
        ("--rm", {"rm": True}, []),
        ("--rm=true --tty=F", {"rm": True}, []),
        ("--rm --rm=false", {}, []),
        ("--rm false", {"rm": True}, ["false"]),
        ("--verify=0", {"verify": False}, []),
        ("-x", {"x": True}, []),
        ("--pull=never", {"pull": "never"}, []),
        ("a --rm b", {"rm": True}, ["a", "b"]),
        ("a -- --rm b", {}, ["a", "--rm", "b"]),
        ("-- --", {}, ["--"]),
        ("- -i", {"interactive": True}, ["-"]),
    ],
)
def test_form_is_understood(argv, changed, rest):
    values, arguments = parse(OPTIONS, argv.split())
    assert values == {**ABSENT, **changed}
    assert arguments == rest


def test_first_argument_ends_flags_where_it_must():
    values, arguments = parse(
        OPTIONS, ["--rm", "image", "ls", "--rm", "-x", "--", "a"], interspersed=False
    )
    assert values == {**ABSENT, "rm": True}
    assert arguments == ["image", "ls", "--rm", "-x", "--", "a"]


def test_double_dash_before_the_first_argument_is_dropped():
    assert parse(OPTIONS, ["--", "image", "--", "a"], interspersed=False)[1] == ["image", "--", "a"]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        ("--nam a", "unknown flag: --nam", "did you mean --name?"),
        ("--zzzzzz", "unknown flag: --zzzzzz", ""),
        ("-name a", "unknown shorthand flag: 'n' in -name", "did you mean --name?"),
        ("-iq", "unknown shorthand flag: 'q' in -iq", ""),
        ("--name", "flag needs an argument: --name", "give it a value: --name=STRING"),
        ("-iw", "flag needs an argument: 'w' in -iw", "give it a value: -w STRING"),
        ("--rm=maybe", 'invalid argument "maybe" for --rm: not a boolean', None),
        ("--rm=", 'invalid argument "" for --rm: not a boolean', None),
        ("--pull x", 'invalid argument "x" for --pull', "choose always or missing or never"),
        ("--=x", "unknown flag: --", None),
        ("---rm", "unknown flag: ---rm", "did you mean --rm?"),
    ],
)
def test_mistake_is_named(argv, message, hint):
    with pytest.raises(UsageError) as caught:
        parse(OPTIONS, argv.split())
    assert caught.value.message == message
    assert caught.value.exit_code == 125
    if hint is not None:
        assert caught.value.hint == hint


def test_values_of_one_parse_are_not_shared_with_the_next():
    parse(OPTIONS, ["-e", "A=1"])[0]["env"].append("B=2")
    assert parse(OPTIONS, [])[0]["env"] == []


@settings(derandomize=True, database=None, deadline=None)
@given(
    name=st.none() | st.text(),
    env=st.lists(st.text()),
    rm=st.booleans(),
    joined=st.booleans(),
    rest=st.lists(st.text()),
)
def test_any_values_survive_the_command_line(name, env, rm, joined, rest):
    argv = [f"--rm={str(rm).lower()}"]
    for flag, values in (("--name", [] if name is None else [name]), ("--env", env)):
        for value in values:
            argv += [f"{flag}={value}"] if joined else [flag, value]
    values, arguments = parse(OPTIONS, [*argv, "--", *rest])
    assert (values["name"], values["env"], values["rm"], arguments) == (name, env, rm, rest)


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.text(alphabet="-=itxwe ra/A", max_size=6), max_size=6))
def test_any_words_are_parsed_or_refused(argv):
    try:
        _, arguments = parse(OPTIONS, argv)
    except UsageError:
        return
    assert len(arguments) <= len(argv)
