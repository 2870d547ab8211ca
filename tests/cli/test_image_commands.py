# SPDX-License-Identifier: Apache-2.0
"""tag, untag, save, history, image tree, image diff, export, search, manifest: what they print and end with."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lib import archives
from tests.lib.command_line import CommandLine, program
from tests.lib.fake_registry import Answer, FakeRegistry, digest

pytestmark = pytest.mark.needs("userns")

LOWER = archives.layer(
    {"etc/kept": b"same", "etc/changed": b"old", "etc/gone": b"x", "d/one": b"1"}
)
UPPER = archives.layer(
    {"etc/changed": b"new", "etc/.wh.gone": b"", "d/.wh..wh..opq": b"", "d/two": b"2"}
)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def two(rootless: CommandLine, tmp_path: Path) -> None:
    """Two images, `base` and `upper`, of which the second has one layer more."""
    layout = archives.Layout(tmp_path / "layout")
    history = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD   file:1 in /"},
        {"created": "2024-01-02T00:00:00Z", "created_by": "ENV A=b", "empty_layer": True},
    ]
    layout.name(layout.add_manifest(LOWER, history=history), "base")
    last = {"created": "2024-01-03T00:00:00Z", "created_by": "RUN something", "comment": "buildkit"}
    layout.name(layout.add_manifest(LOWER, UPPER, history=[*history, last]), "upper")
    rootless.ok("load", "-i", layout.directory)


# -- names ------------------------------------------------------------------------------------------


def test_tag_names_an_image_once_more(rootless: CommandLine, image: str) -> None:
    assert rootless.ok("tag", image, "other.org/x:1") == ""
    ids = rootless.ok("images", "-q", "--no-trunc").split()
    assert len(ids) == 2
    assert len(set(ids)) == 1
    rootless.ok("image", "tag", ids[0], "by-id")
    assert "by-id" in rootless.ok("images")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", "x"), "no such image: nothing"),
        (("testbox", "UPPER"), "must be lower-case"),
        (("testbox", f"x@sha256:{'0' * 64}"), "a name with a digest"),
        (("host", "x"), "cannot tag host"),
    ],
)
def test_tag_that_cannot_be_is_one_sentence(
    rootless: CommandLine, image: str, words: tuple[str, str], said: str
) -> None:
    done = rootless("tag", *words)
    assert done.returncode == 1
    assert said in done.stderr


def test_untag_takes_names_and_keeps_the_image(rootless: CommandLine, image: str) -> None:
    for name in ("a", "b"):
        rootless.ok("tag", image, name)
    assert rootless.ok("untag", image, "a") == "Untagged: a:latest\n"
    assert "is no name of" in rootless("untag", image, "a").stderr
    assert rootless.ok("untag", image).splitlines() == [
        "Untagged: b:latest",
        "Untagged: testbox:latest",
    ]
    assert rootless.ok("images", "--format", "{{.Repository}}") == "<none>\n"


def test_until_filter_chooses_by_age(rootless: CommandLine, two: None) -> None:
    # The images of this test say no time of their own; those made now are newer than a day.
    assert rootless.ok("images", "-q", "-f", "until=24h") == ""
    wrong = rootless("images", "-f", "until=yesterday")
    assert "neither a span nor a time" in wrong.stderr


# -- save -------------------------------------------------------------------------------------------


def test_save_to_a_terminal_is_refused(rootless: CommandLine, image: str) -> None:
    command = ["script", "-qec", " ".join([*program(), "save", image]), "/dev/null"]
    done = subprocess.run(
        command, env=rootless.environ, capture_output=True, check=False, text=True
    )
    assert "cowardly refusing to save to a terminal" in done.stdout


def test_save_that_fails_leaves_no_file(rootless: CommandLine, image: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    done = rootless("save", "-o", place / "x.tar", image, "nothing")
    assert done.returncode == 1
    assert "no such image: nothing" in done.stderr
    assert list(place.iterdir()) == []
    assert rootless("save", "-o", tmp_path / "no" / "x.tar", image).returncode == 1


# -- history and layers -----------------------------------------------------------------------------


def test_history_shows_the_latest_step_first(rootless: CommandLine, two: None) -> None:
    lines = rootless.ok("history", "upper").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert "RUN something" in lines[1]
    assert lines[1].endswith("buildkit")
    assert [line.split()[0] for line in lines[2:]] == ["<missing>"] * 2
    assert "ENV A=b" in lines[2]
    assert "0B" in lines[2]
    assert "ADD file:1 in /" in lines[3]
    ids = rootless.ok("history", "-q", "--no-trunc", "upper").split()
    assert ids == [
        rootless.ok("images", "-q", "--no-trunc", "upper").strip(),
        "<missing>",
        "<missing>",
    ]
    rows = [
        json.loads(line)
        for line in rootless.ok("history", "--format", "json", "upper").splitlines()
    ]
    assert [row["CreatedBy"] for row in rows][0] == "RUN something"
    plain = rootless.ok("history", "-H=false", "upper").splitlines()
    assert "2024-01-03T00:00:00Z" in plain[1]
    assert plain[2].split()[-1] == "0"


def test_tree_tells_what_is_shared(rootless: CommandLine, two: None) -> None:
    out = rootless.ok("image", "tree")
    base, upper = digest(LOWER)[7:19], digest(UPPER)[7:19]
    assert f"└─ {base}" in out.partition("upper:latest  ")[0]
    lines = out.partition("\nupper:latest  ")[2].splitlines()
    assert lines[1].startswith(f"├─ {base}")
    assert lines[1].endswith("shared with base:latest")
    assert lines[2].startswith(f"└─ {upper}")
    assert out.splitlines()[-1].startswith("2 images, ")
    found = [
        json.loads(line) for line in rootless.ok("image", "tree", "--format", "json").splitlines()
    ]
    assert [each["Names"] for each in found] == [["base:latest"], ["upper:latest"]]
    assert found[0]["OwnSize"] == 0
    assert found[1]["OwnSize"] == len(b"new" + b"2")
    assert "upper" not in rootless.ok("image", "tree", "base").splitlines()[0]


def test_diff_shows_what_layers_did(rootless: CommandLine, two: None) -> None:
    assert rootless.ok("image", "diff", "base", "upper").splitlines() == [
        "D /d/one", "A /d/two", "C /etc/changed", "D /etc/gone",
    ]  # fmt: skip
    assert rootless.ok("image", "diff", "upper", "base").splitlines() == [
        "A /d/one", "D /d/two", "C /etc/changed", "A /etc/gone",
    ]  # fmt: skip
    assert rootless.ok("image", "diff", "base", "base") == ""
    first = rootless.ok("image", "diff", "--format", "json", "base", "upper").splitlines()[0]
    assert json.loads(first) == {"Kind": "D", "Path": "/d/one"}


# -- export -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs", "copy"])
def test_export_is_the_tree_the_container_sees(
    rootless: CommandLine, image: str, tmp_path: Path, driver: str
) -> None:
    if driver != "copy":
        from tests.conftest import demand

        demand({"overlay": "overlay", "fuse-overlayfs": "fuse"}[driver])
    flags = ("--network=none", f"--storage-driver={driver}", image, "testbox", "each")
    rootless.ok("run", "--name=box", *flags, "write", "/etc/new", "new", ",", "rm", "/etc/group")
    for number in range(2):
        rootless.ok("export", "-o", tmp_path / f"{number}.tar", "box")
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"bin/testbox", "etc/passwd", "etc/new"} <= names
    assert "etc/group" not in names
    assert not any(name.startswith(("proc/", ".wh.", "etc/.wh.")) for name in names)
    again = rootless.ok("import", tmp_path / "0.tar", "again").strip()
    assert again in rootless.ok("images", "-q", "--no-trunc")
    assert "A /etc/new" in rootless.ok("image", "diff", image, "again").splitlines()
    assert os.listdir(rootless.paths.tmp) == []


def test_export_of_a_container_that_runs_does_not_disturb_it(
    rootless: CommandLine, image: str, tmp_path: Path
) -> None:
    words = ("write", "/etc/new", "new", ",", "echo", "ready", ",", "cat", ",", "cat", "/etc/new")
    flags = ("-i", "--network=none", "--name=box", image, "testbox")
    with rootless.start("run", *flags, "each", *words) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        rootless.ok("export", "-o", tmp_path / "out.tar", "box")
        out, _ = running.communicate("")
    assert out == "new"
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert any(name.endswith("etc/new") for name in archive.getnames())


@pytest.mark.parametrize("option", ["", ":O"])
def test_export_of_a_directory_that_was_run(
    rootless: CommandLine, rootfs: Callable[..., Path], tmp_path: Path, option: str
) -> None:
    directory = rootfs({"etc/marker": "here"})
    words = ("--network=none", "--name=box", "--rootfs", f"{directory}{option}", "testbox", "probe")
    rootless.ok("run", *words)
    rootless.ok("export", "-o", tmp_path / "out.tar", "box")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert any(name.endswith("etc/marker") for name in archive.getnames())


def test_export_of_nothing_is_one_sentence(rootless: CommandLine) -> None:
    done = rootless("export", "-o", "/dev/null", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("rootless: no such container: nothing\n")


# -- search -----------------------------------------------------------------------------------------


def test_search_asks_the_registry(fake: FakeRegistry, rootless: CommandLine) -> None:
    results = [
        {
            "name": "debian",
            "description": "a\x1b[31m system " + "x" * 60,
            "star_count": 9,
            "is_official": True,
        },
        {"name": "me/debian", "description": "", "star_count": 1, "is_official": False},
        "rubbish",
    ]
    fake.add("/v1/search", Answer(body=json.dumps({"results": results}).encode()))
    out = rootless.ok("search", f"{fake.domain}/deb")
    assert "\x1b" not in out
    assert out.splitlines()[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert out.splitlines()[1].startswith(f"{fake.domain}/debian")
    assert "…" in out
    only = ("search", "--no-trunc", "--format", "{{.Name}} {{.StarCount}}", f"{fake.domain}/deb")
    assert rootless.ok(*only, "-f", "stars=2") == f"{fake.domain}/debian 9\n"
    assert rootless.ok(*only, "-f", "is-official=false") == f"{fake.domain}/me/debian 1\n"
    assert rootless.ok(*only, "--limit", "1") == f"{fake.domain}/debian 9\n"


def test_search_takes_the_catalog_of_a_private_registry(
    fake: FakeRegistry, rootless: CommandLine
) -> None:
    pages = [
        Answer(
            headers={"Link": '</v2/_catalog?last=b>; rel="next"'},
            body=b'{"repositories":["a/x","b"]}',
        ),
        Answer(body=b'{"repositories":["c/x"]}'),
    ]
    fake.add("/v2/_catalog", *pages)
    out = rootless.ok("search", "--format", "{{.Name}}", f"{fake.domain}/x")
    assert out.split() == [f"{fake.domain}/a/x", f"{fake.domain}/c/x"]


@pytest.mark.parametrize(
    "words", [("--limit", "0"), ("--limit", "x"), ("-f", "age=1"), ("-f", "stars=x")]
)
def test_search_that_asks_wrongly_is_one_sentence(
    rootless: CommandLine, words: tuple[str, ...]
) -> None:
    done = rootless("search", *words, "127.0.0.1:1/x")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 2


def test_endless_pages_are_one_sentence(fake: FakeRegistry, rootless: CommandLine) -> None:
    link = {"Link": '</v2/image/tags/list?last=a>; rel="next"'}
    fake.add("/v2/image/tags/list", Answer(headers=link, body=b'{"tags":[]}'))
    done = rootless("pull", "-a", f"{fake.domain}/image")
    assert done.returncode == 1
    assert "the same pages for ever" in done.stderr
    assert len(fake.requests("/v2/image/tags/list")) == 2


def test_pages_of_another_registry_are_not_fetched(
    fake: FakeRegistry, rootless: CommandLine
) -> None:
    with FakeRegistry("127.0.0.2") as evil:
        link = {"Link": f'<{evil.url}/v2/image/tags/list>; rel="next"'}
        fake.add("/v2/image/tags/list", Answer(headers=link, body=b'{"tags":[]}'))
        assert rootless("pull", "-a", f"{fake.domain}/image").returncode == 1
        assert evil.seen == []


# -- manifest lists ---------------------------------------------------------------------------------


def test_manifest_list_is_made_shown_and_forgotten(
    fake: FakeRegistry, rootless: CommandLine
) -> None:
    fake.add_image(LOWER, name="amd")
    fake.add_image(LOWER, name="arm", architecture="arm64")
    name, amd, arm = (f"{fake.domain}/{each}" for each in ("list:1", "image:amd", "image:arm"))
    assert rootless.ok("manifest", "create", name, amd) == f"Created manifest list {name}\n"
    taken = rootless("manifest", "create", name, arm)
    assert taken.returncode == 1
    assert "exists already" in taken.stderr
    rootless.ok("manifest", "create", "--amend", name, arm)
    rootless.ok("manifest", "annotate", "--variant", "v8", "--os-features", "a,b", name, arm)
    found = rootless.json("manifest", "inspect", name)["manifests"]
    assert [each["platform"] for each in found] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8", "os.features": ["a", "b"]},
    ]
    verbose = rootless.json("manifest", "inspect", "-v", name)
    assert [each["Ref"] for each in verbose] == [amd, arm]
    assert verbose[0]["OCIManifest"]["layers"][0]["digest"] == digest(LOWER)
    assert rootless("manifest", "annotate", name, f"{fake.domain}/image:none").returncode == 1
    rootless.ok("manifest", "rm", name)
    assert rootless("manifest", "rm", name).returncode == 1


@pytest.mark.needs("docker-registry", "skopeo")
def test_manifest_list_goes_to_a_registry_and_is_pulled(
    rootless: CommandLine, tmp_path: Path
) -> None:
    from tests.lib import registry

    layout = archives.Layout(tmp_path / "layout")
    layout.name(layout.add_manifest(LOWER), "amd")
    layout.name(layout.add_manifest(UPPER, architecture="arm64"), "arm")
    with registry.serving(tmp_path) as server:
        for tag in ("amd", "arm"):
            registry.copy(f"oci:{layout.directory}:{tag}", f"docker://{server}/one:{tag}")
        name = f"{server}/list:1"
        rootless.ok("manifest", "create", name, f"{server}/one:amd", f"{server}/one:arm")
        out = rootless.ok("manifest", "push", "--purge", name).splitlines()
        assert [line.partition("@")[0] for line in out[:2]] == [f"Pushed ref {server}/list"] * 2
        assert out[2].startswith("sha256:")
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        assert digest(raw) == out[2]
        rootless.ok("pull", "-q", "--platform=linux/arm64", name)
        (found,) = rootless.json("inspect", name)
        assert found["Architecture"] == "arm64"
        assert rootless("manifest", "rm", name).returncode == 1
        assert len(rootless.json("manifest", "inspect", name)["manifests"]) == 2


@pytest.mark.parametrize("words", [("history",), ("image", "inspect"), ("save", "-o", "/dev/null")])
def test_image_of_another_platform_is_refused(
    rootless: CommandLine, image: str, words: tuple[str, ...]
) -> None:
    done = rootless(*words, "--platform=linux/s390x", image)
    assert done.returncode == 1
    machine = rootless.json("inspect", "--format", "json", image)["Architecture"]
    rootless.ok(*words, f"--platform=linux/{machine}", image)


def test_manifest_lists_are_completed(fake: FakeRegistry, rootless: CommandLine) -> None:
    fake.add_image(LOWER, name="amd")
    rootless.ok("manifest", "create", "mine:1", f"{fake.domain}/image:amd")
    assert rootless.ok("__complete", "--", "manifest", "push", "m") == "mine:1\n"
