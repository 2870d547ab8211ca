# SPDX-License-Identifier: Apache-2.0
"""Whether a union file system really works here: mounts one on the store's own file system and looks."""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import RootlessError
from rootless.runtime import userns
from rootless.runtime.rootfs import Stage
from rootless.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.paths import Paths
    from rootless.runtime.idmap import IdMap

_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)


def overlay(paths: Paths, id_map: IdMap) -> str:
    """ "" when overlayfs with user.* attributes works on the store under this map, else the obstacle."""
    from rootless.storage.union import Overlay, Writable

    os.makedirs(paths.tmp, 0o700, exist_ok=True)
    place, held = staging.make_directory(paths, "probe")

    def try_it() -> bytes:
        step = Overlay([f"{place}/lower"], Writable(place), True, "probe")
        step.execute(Stage())
        merged = f"{place}/merged"
        os.unlink(f"{merged}/file")  # needs a whiteout
        os.unlink(f"{merged}/directory/below")
        os.rmdir(f"{merged}/directory")
        os.mkdir(f"{merged}/directory")  # needs an opaque directory: an attribute
        if not stat.S_ISCHR(os.lstat(f"{place}/upper/file").st_mode):
            return b"it made no whiteout"
        if os.listdir(f"{merged}/directory"):
            return b"it made no opaque directory"
        return b""

    try:
        for name in ("lower", "upper", "work", "merged", "lower/directory"):
            os.mkdir(f"{place}/{name}", 0o700)
        for name in ("file", "directory/below"):
            os.close(os.open(f"{place}/lower/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        return userns.call(id_map, try_it).decode()
    except OSError as problem:
        if problem.errno in _PASSING:
            raise  # says nothing about overlayfs, and the answer is kept
        return str(problem.strerror or problem).lower()
    except RootlessError as problem:
        return problem.message
    finally:
        userns.remove_tree(id_map, place)
        os.close(held)


def remember(path: str, text: str) -> None:
    """Keep an answer for the rest of this boot; without a place for it we ask again."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, path)
    except OSError:
        pass
