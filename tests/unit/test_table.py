# SPDX-License-Identifier: Apache-2.0
"""Listings, sizes and ages, as docker prints them."""

from __future__ import annotations

import json

import pytest

from rootless.cli.table import (
    ellipsis,
    human_duration,
    human_size,
    print_documents,
    print_listing,
    print_table,
)

HEADINGS = {"ID": "CONTAINER ID", "Names": "NAMES", "Size": "SIZE"}
ROWS = [
    {"ID": "0123456789ab", "Names": "first", "Size": "0B", "Label": lambda name: f"l-{name}"},
    {"ID": "ba9876543210", "Names": "a-longer-name", "Size": "1.2MB", "Label": lambda name: ""},
]


def listed(capsys, form):
    print_listing(ROWS, HEADINGS, ("ID", "Names"), form)
    return capsys.readouterr().out


@pytest.mark.parametrize("form", ["", "table"])
def test_default_is_the_table_of_the_default_columns(capsys, form):
    assert listed(capsys, form) == (
        "CONTAINER ID   NAMES\n0123456789ab   first\nba9876543210   a-longer-name\n"
    )


def test_table_template_has_headings_and_functions_leave_them_alone(capsys):
    label = '{{.Label "com.example.the-role"}}'
    out = listed(capsys, rf"table {{{{upper .Names}}}}\t{{{{.Size}}}}\t{label}")
    assert out == (
        "NAMES           SIZE      the role\n"
        "FIRST           0B        l-com.example.the-role\n"
        "A-LONGER-NAME   1.2MB\n"
    )


def test_template_has_a_line_for_each_row(capsys):
    assert listed(capsys, r"{{.ID}}\t{{.Names}}") == (
        "0123456789ab\tfirst\nba9876543210\ta-longer-name\n"
    )


def test_json_is_an_object_a_line(capsys):
    lines = listed(capsys, "json").splitlines()
    assert [json.loads(line)["Names"] for line in lines] == ["first", "a-longer-name"]


def test_columns_are_ten_wide_at_least(capsys):
    print_table(["A\tB\tC", "1\t2\t3"])
    assert capsys.readouterr().out == "A         B         C\n1         2         3\n"


def test_documents_are_an_indented_array(capsys):
    print_documents([{"Id": "é"}], "")
    assert capsys.readouterr().out == '[\n    {\n        "Id": "é"\n    }\n]\n'


def test_no_documents_are_an_empty_array(capsys):
    print_documents([], "")
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (74_800_000, "74.8MB"),
        (999_600, "1MB"),
        (1_234_567_890, "1.23GB"),
        (10**25, "1e+07EB"),
    ],
)
def test_size_has_three_digits_and_a_decimal_unit(count, text):
    assert human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (86400 * 2, "2 days"),
        (86400 * 14, "2 weeks"),
        (86400 * 60, "2 months"),
        (86400 * 365 * 2, "2 years"),
    ],
)
def test_duration_is_worded_as_docker_does(seconds, text):
    assert human_duration(seconds) == text


def test_ellipsis_keeps_what_fits():
    assert ellipsis("x" * 20, 20) == "x" * 20
    assert ellipsis("x" * 21, 20) == "x" * 19 + "…"
