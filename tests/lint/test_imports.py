# SPDX-License-Identifier: Apache-2.0
"""The launch path stays light: what each temperature of module may load is a list, not a hope."""

from __future__ import annotations

import functools
import subprocess
import sys
import sysconfig

import pytest

from tests.lib.sources import CHECKOUT, modules

# Started as the launcher does it, with the package and the libraries it uses in reach.
PYTHON = [sys.executable, "-I", "-S", "-B", "-c"]
SEARCH = [str(CHECKOUT), sysconfig.get_path("purelib")]

# What the forked child may have loaded. `_ctypes` is its half in C: `ctypes` itself costs 2 ms.
WHITE_STANDARD = "__future__ _ctypes errno fcntl os select sys termios time"
# A C module without Python parts, the binding of unshare(2) before Python 3.12.
WHITE_LIBRARIES = {"unshare"}
WHITE = (
    "rootless.errors",
    "rootless.log",
    *modules("rootless/linux"),
    "rootless.runtime.channel",
    "rootless.runtime.init",
    *(
        f"rootless.runtime.{name}"
        for name in (
            "copyup",
            "devices",
            "kernel",
            "labels",
            "landlock",
            "mounts",
            "procfs",
            "scheduling",
        )
    ),
    "rootless.runtime.rootfs",
)
# What the parent of a container must not have loaded: each of them costs as much as a namespace.
HOT = (
    "rootless.cli.main",
    "rootless.cli.options",
    "rootless.cli.run",
    "rootless.configuration",
    "rootless.engine.run",
    "rootless.images.records",
    "rootless.oci.document",
    "rootless.oci.reference",
    "rootless.oci.runtime",
    "rootless.paths",
    "rootless.runtime.confine",
    "rootless.runtime.launch",
    "rootless.runtime.seccomp_cache",
    "rootless.storage.union",
    "rootless.cli.oci.create",
    "rootless.cli.oci.exec",
    "rootless.cli.oci.run",
)
BANNED_WHEN_HOT = """
    argparse asyncio base64 collections contextlib ctypes dataclasses difflib email enum
    functools getpass glob gzip hashlib http inspect json locale logging pathlib pkgutil
    platform random re secrets selectors sh shlex shutil signal site socket ssl string struct
    structlog subprocess tarfile tempfile textwrap threading traceback typing urllib warnings
    yaml zipfile
"""


@functools.cache
def loaded(statement: str) -> frozenset[str]:
    """The modules in `sys.modules` once `statement` has run in an interpreter like the launcher's."""
    code = f"import sys; sys.path += {SEARCH!r}; {statement}; print(*sys.modules)"
    done = subprocess.run([*PYTHON, code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


def imported_by(module: str) -> frozenset[str]:
    """What importing `module` loads beyond the bare interpreter."""
    return loaded(f"import {module}") - loaded("pass")


@pytest.mark.parametrize("module", WHITE)
def test_white_module_loads_only_white_modules(module: str) -> None:
    standard = loaded("import " + WHITE_STANDARD.replace(" ", ", "))
    ours = {name for name in imported_by(module) if name.partition(".")[0] == "rootless"}
    assert imported_by(module) - ours - standard - WHITE_LIBRARIES == set()
    assert ours <= {*WHITE, *_packages_of(WHITE)}


@pytest.mark.parametrize("module", HOT)
def test_hot_module_loads_nothing_heavy(module: str) -> None:
    assert imported_by(module) & set(BANNED_WHEN_HOT.split()) == set()


def _packages_of(names: tuple[str, ...]) -> set[str]:
    return {name.rpartition(".")[0] for name in names} | {"rootless"}
