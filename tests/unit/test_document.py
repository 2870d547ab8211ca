# SPDX-License-Identifier: Apache-2.0
"""JSON: our own documents come back as they were, those from outside are read in one way or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Invalid
from rootless.oci import document

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_value_comes_back_and_is_what_json_writes(value: object) -> None:
    text = document.dumps(value)
    assert document.loads(text) == value
    assert text.decode() == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u \t\n\x00é', max_size=30))
def test_any_text_is_read_as_json_does_or_refused(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=lambda name: int("no constant"))
    except ValueError:
        with pytest.raises(Invalid, match="cannot read here"):
            document.loads(text, "here")
    else:
        assert document.loads(text, "here") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"nul", "not JSON"),
        (b'{"a":1} x', "something follows the JSON value at character 7"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"\xff", "utf-8"),
        (b'{"a":1,"a":2}', "the key 'a' stands twice in one object"),
        (b'{"digest":"x","Digest":"y"}', "the key 'Digest' stands twice"),
        (b'[{"layers":[],"LAYERS":[]}]', "the key 'LAYERS' stands twice"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'"' + b"x" * 100 + b'"', "larger than 100 bytes"),
    ],
)
def test_load_strict_refuses(text: bytes, reason: str) -> None:
    size = 100 if b"xxx" in text else document.MAX_SIZE
    with pytest.raises(Invalid, match=f"^cannot read the manifest: .*({reason})"):
        document.load_strict(text, "the manifest", max_size=size)


def test_load_strict_takes_keys_that_only_look_alike() -> None:
    assert document.load_strict(b'{"a":1,"A":2}', "x") == {"a": 1, "A": 2}
    assert document.load_strict(b"\xef\xbb\xbf [1]\r\n", "x") == [1]


def test_load_of_a_damaged_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"a":')
    with pytest.raises(Invalid, match=str(file)):
        document.load(str(file))
    with pytest.raises(FileNotFoundError):
        document.load(str(tmp_path / "none"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_dumps_refuses_what_has_no_form(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        document.dumps({"a": value})


def test_file_names_that_are_no_text_survive() -> None:
    assert document.dumps(["\udcff"]) == b'["\xff"]'
    assert document.loads(b'["\xff"]') == ["\udcff"]


def test_what_is_wrong_is_told_where_json_was_never_imported() -> None:
    """The C scanner alone raises SystemError for a text that breaks off."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(document.__file__).parents[2])!r})
from rootless.oci import document
from rootless.errors import Invalid
assert "json" not in sys.modules
for text in ("{{", '{{"a" 1}}', '["\\\\x"]', '{{"a": }}'):
    for read in (document.loads, lambda text: document.load_strict(text, "document")):
        try:
            read(text)
        except Invalid as problem:
            assert problem.message.startswith("cannot read document: "), problem.message
        else:
            sys.exit(text)
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True)
