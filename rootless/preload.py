# SPDX-License-Identifier: Apache-2.0
"""Imports out of one file: the modules on the way to a container, compiled when we were installed.

Finding a module costs the interpreter half a dozen system calls, about 45 µs; a container start needs
fifty of ours. `setup.py` puts their code into `bin/hot.<cache tag>`, and `install` lets it be found
there first. Without that file, or with one of another Python, imports go their ordinary way.
"""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

    Contents = dict[str, tuple[bool, bytes]]  # name -> (is a package, marshalled code)

# The interpreter's own, as in every .pyc: changes whenever the byte code does.
_MAGIC: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
_Spec: Any = type(sys.__spec__)


def file_name() -> str:
    """The name of the file below `bin/` that this interpreter can use."""
    return f"hot.{sys.implementation.cache_tag}"


def pack(modules: dict[str, tuple[bool, CodeType]]) -> bytes:
    """The content of that file for the given modules: name -> (is a package, code)."""
    contents = {name: (package, marshal.dumps(code)) for name, (package, code) in modules.items()}
    return _MAGIC + marshal.dumps(contents)


def install(directory: str) -> None:
    """Find the modules of the package in `directory` in the file, if there is one."""
    try:
        with open(f"{directory}/bin/{file_name()}", "rb", buffering=0) as file:
            data = file.read()
    except OSError:
        return
    if data[: len(_MAGIC)] == _MAGIC:
        sys.meta_path.insert(0, _Finder(directory, marshal.loads(data[len(_MAGIC) :])))


class _Finder:
    """Finder and loader in one; see "importlib" in the library reference."""

    def __init__(self, directory: str, contents: Contents) -> None:
        self._above = directory.rpartition("/")[0]
        self._contents = contents

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        found = self._contents.get(name)
        if found is None:
            return None
        place = f"{self._above}/{name.replace('.', '/')}"
        spec = _Spec(name, self, is_package=found[0])
        spec.origin = f"{place}/__init__.py" if found[0] else f"{place}.py"
        spec.has_location = True
        if found[0]:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: Any) -> None:
        """The interpreter makes it."""

    def exec_module(self, module: ModuleType) -> None:
        exec(marshal.loads(self._contents[module.__name__][1]), module.__dict__)
