# SPDX-License-Identifier: Apache-2.0
"""Root file systems made of one static program, `testbox`: no distribution, no network, milliseconds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lib.abilities import find_program

SOURCE = Path(__file__).with_name("testbox.c")

PASSWD = """\
root:x:0:0:root:/root:/bin/testbox
daemon:x:1:1:daemon:/:/bin/testbox
user:x:1000:1000:User:/home/user:/bin/testbox
nobody:x:65534:65534:nobody:/:/bin/testbox
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
staff:x:50:user
user:x:1000:
nogroup:x:65534:
"""


def compile_testbox(target: Path) -> Path:
    """Build testbox.c as `target`, static; CalledProcessError with the compiler's words when it fails."""
    compiler = find_program("musl-gcc") or find_program("cc") or "cc"
    flags = ["-std=c11", "-Os", "-s", "-static", "-Wall", "-Wextra"]
    subprocess.run([compiler, *flags, "-o", target, SOURCE], check=True, stderr=subprocess.PIPE)
    return target


def build(directory: Path, testbox: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make `directory` a root file system: every testbox command in /bin, two data bases in /etc.

    `files` are further files by their path, such as {"etc/motd": "hello"}.
    """
    for name in ("bin", "dev", "etc", "home/user", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (directory / name).mkdir(parents=True)
    (directory / "tmp").chmod(0o1777)
    (directory / "root").chmod(0o700)
    shutil.copy(testbox, directory / "bin" / "testbox")
    for command in commands(testbox):
        (directory / "bin" / command).symlink_to("testbox")
    for name, text in {"etc/passwd": PASSWD, "etc/group": GROUP, **(files or {})}.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return directory


def commands(testbox: Path) -> list[str]:
    """The names in testbox's own table."""
    done = subprocess.run([testbox, "help"], check=True, capture_output=True, text=True)
    return [line.split()[0] for line in done.stdout.splitlines()]
