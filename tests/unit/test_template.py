# SPDX-License-Identifier: Apache-2.0
"""Go templates as people write them after --format."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.cli.template import Template
from rootless.errors import UsageError

VALUE = {
    "ID": "abc",
    "Names": ["x", "y"],
    "State": {"Status": "running", "Pid": 3, "OOMKilled": False},
    "Labels": {"com.example.a": "b", "plain": "c"},
    "Ports": None,
    "Label": lambda name: f"<{name}>",
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.ID}}", "abc"),
        ("{{ .ID }}:{{.State.Status}}", "abc:running"),
        ("{{.State.Pid}} {{.State.OOMKilled}}", "3 false"),
        ("{{.Names}} {{.Labels}}", "[x y] map[com.example.a:b plain:c]"),
        ("{{.Ports}}|{{.Labels.absent}}|{{.Labels.plain}}", "<no value>|<no value>|c"),
        ('{{index .Labels "com.example.a"}}{{index .Labels "no"}}', "b"),
        ("{{index .Names 1}} {{(index .Mounts 0).Source}}", "y /a"),
        (
            "{{json .Names}} {{json .State}}",
            '["x","y"] {"Status":"running","Pid":3,"OOMKilled":false}',
        ),
        ("{{range .Names}}[{{.}}]{{end}}", "[x][y]"),
        ("{{range $i, $n := .Names}}{{if $i}}, {{end}}{{$n}}{{end}}", "x, y"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "com.example.a=b;plain=c;"),
        ("{{range .Ports}}p{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{.Source}}{{$.ID}} {{end}}", "/aabc /babc "),
        ("{{if .Ports}}p{{else if .Names}}n{{else}}e{{end}}!", "n!"),
        ("{{if .Ports}}p{{else if .State.OOMKilled}}n{{else}}e{{end}}!", "e!"),
        ("{{if and .Names (not .Ports)}}yes{{end}}", "yes"),
        ("{{if or .Ports .State.OOMKilled}}yes{{else}}no{{end}}", "no"),
        ('{{if eq .State.Status "exited" "running"}}r{{end}}{{if gt .State.Pid 2}}2{{end}}', "r2"),
        ("{{with .State}}{{.Pid}} {{$.ID}}{{end}}", "3 abc"),
        ("{{with $s := .State}}{{$s.Pid}}{{end}}", "3"),
        ("{{with .Ports}}p{{else}}none{{end}}", "none"),
        ("{{$x := .ID}}{{$x}}{{$x}}", "abcabc"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a{{/* nothing */}}b", "ab"),
        ("{{.ID | upper}} {{upper .ID | lower}} {{title .ID}}", "ABC abc Abc"),
        ('{{join .Names ", "}} {{(index (split "a:b" ":") 1)}}', "x, y b"),
        ('{{printf "%s-%03d-%q-%v%%" .ID .State.Pid .ID .Names}}', 'abc-003-"abc"-[x y]%'),
        ('{{.ID | printf "%s%s" "x"}}', "xabc"),
        ("{{println .ID 1}}", "abc 1\n"),
        ("{{truncate .ID 2}} {{pad .ID 1 2}}|{{len .Names}} {{slice .ID 1 2}}", "ab  abc  |2 b"),
        ('{{.Label "a.b"}}', "<a.b>"),
        ('{{"}}"}} {{`raw "x"`}} {{"\\u00e9"}}', '}} raw "x" é'),
        ("{{true}} {{nil}} {{1.5}} {{-2}} {{'a'}}", "true <no value> 1.5 -2 97"),
        ("{{(.State).Pid}} {{((.ID))}}", "3 abc"),
    ],
)
def test_template_renders(text, expected):
    assert Template(text).render(VALUE) == expected


def test_json_of_everything_leaves_methods_out():
    assert "Label" not in json.loads(Template("{{json .}}").render(VALUE))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{.ID", "unclosed action"),
        ("{{}}", "missing value for command"),
        ("{{if}}x{{end}}", "missing value for command"),
        ("{{if .ID}}x", "{{if}} without {{end}}"),
        ("x{{end}}", "unexpected {{end}}"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", "expected {{end}}, found {{else}}"),
        ("{{nothing .ID}}", 'function "nothing" not defined'),
        ("{{.ID | }}", "missing value for command"),
        ("{{(.ID}}", "unclosed left parenthesis"),
        ("{{.ID ; .ID}}", "unexpected"),
        ("{{.ID .ID}}", "can't give argument to non-function .ID"),
        ("{{.Missing}}", "no field .Missing"),
        ("{{.ID.Missing}}", "can't take field .Missing of 'abc'"),
        ("{{index .Names 2}}", "error calling index"),
        ("{{$nope}}", "undefined variable"),
        ("{{range .ID}}{{end}}", "range can't iterate over abc"),
        ('{{printf "%d" .ID}}', "error calling printf"),
        ("{{upper}}", "error calling upper"),
    ],
)
def test_broken_template_is_a_usage_error(text, problem):
    with pytest.raises(UsageError, match=".") as caught:
        Template(text).render(VALUE)
    assert problem in caught.value.message


def test_unknown_field_names_the_fields_there_are():
    with pytest.raises(UsageError) as caught:
        Template("{{.Missing}}").render({"ID": 1, "Name": 2, "Label": print})
    assert caught.value.hint == "the fields are: ID, Name"


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(alphabet="{}.$|()ID \"`-:=,ifrangeendelse'/*1", max_size=40))
def test_any_text_renders_or_is_refused(text):
    try:
        assert isinstance(Template(text).render(VALUE), str)
    except UsageError:
        pass
