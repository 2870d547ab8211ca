# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci` as an engine drives it: verbs on a root of the test's own, bundles of the test program.

Like conmon the test process adopts what `create` and `run --detach` leave behind, so it learns how a
container ended, and notices one that did not.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rootless.linux import prctl
from rootless.runtime import default_spec
from tests.lib import waiting
from tests.lib.command_line import PACKAGE, TIME_LIMIT

Word = str | os.PathLike[str]
Result = subprocess.CompletedProcess[str]
# As in `spec --rootless`, but with the caller's subordinate ids: what the runtime does by itself.
SUBORDINATE_IDS: dict[str, Any] = {"uidMappings": None, "gidMappings": None}


def program() -> list[str]:
    """The installed command of this interpreter's environment, or the checkout run the same way."""
    installed = Path(sys.executable).with_name("rootless-oci")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-I", str(PACKAGE / "__main__.py"), "@rootless-oci"]


def executable(directory: Path) -> Path:
    """One file that is the command, for programs that take the path of a runtime."""
    words = program()
    if len(words) == 1:
        return Path(words[0])
    script = directory / "rootless-oci"
    script.write_text("#!/bin/sh\nexec " + " ".join(words) + ' "$@"\n')
    script.chmod(0o755)
    return script


class Runtime:
    """Runs `rootless-oci --root ROOT ARGS`; bundles are made beside the root."""

    def __init__(self, directory: Path, make_rootfs: Callable[..., Path]) -> None:
        self.directory = directory
        self.root = directory / "containers"
        self._make_rootfs = make_rootfs
        self._bundles = 0
        self._consoles: list[ConsoleSocket] = []
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROOTLESS_")}
        self.environ = {**inherited, "ROOTLESS_RUN": str(directory / "run")}

    # -- bundles ----------------------------------------------------------------------------------

    def config(
        self,
        *command: str,
        process: Mapping[str, Any] | None = None,
        linux: Mapping[str, Any] | None = None,
        mounts: list[dict[str, Any]] | None = None,
        **top: Any,
    ) -> dict[str, Any]:
        """What `spec --rootless` writes, for a command without a terminal; None takes a member out.

        `mounts` come after those that are there, `process` and `linux` replace members of theirs.
        """
        made = default_spec.default(rootless=True)
        made["process"].update({"args": list(command), "terminal": False, **(process or {})})
        made["linux"].update(linux or {})
        made["mounts"] += mounts or []
        made.update(top)
        for part in (made, made["process"], made["linux"]):
            for name in [name for name, value in part.items() if value is None]:
                del part[name]
        return made

    def bundle(self, *command: str, files: Mapping[str, str] | None = None, **changes: Any) -> Path:
        """The directory of a new bundle with `config(*command, **changes)`."""
        self._bundles += 1
        bundle = self.directory / f"bundle{self._bundles}"
        bundle.mkdir()
        self._make_rootfs(files).rename(bundle / "rootfs")
        (bundle / "config.json").write_text(json.dumps(self.config(*command, **changes)))
        return bundle

    # -- verbs ------------------------------------------------------------------------------------

    def command(self, *words: Word) -> list[Word]:
        """The whole command line."""
        return [*program(), "--root", self.root, *words]

    def start(self, *words: Word, **settings: Any) -> subprocess.Popen[str]:
        """Start a command line; pipes are for the caller to ask for."""
        environ = {**self.environ, **settings.pop("environ", {})}
        return subprocess.Popen(self.command(*words), text=True, env=environ, **settings)

    def __call__(self, *words: Word, input: str = "", **settings: Any) -> Result:
        """Run to the end; judges nothing.

        Its output goes to files: a container that stays would hold the ends of pipes.
        """
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+", errors="replace") as out,
            tempfile.TemporaryFile("w+", errors="replace") as told,
        ):
            given.write(input)
            given.seek(0)
            streams = {"stdin": given, "stdout": out, "stderr": told, **settings}
            with self.start(*words, **streams) as running:
                code = running.wait(TIME_LIMIT)
            out.seek(0)
            told.seek(0)
            return Result(running.args, code, out.read(), told.read())

    def ok(self, *words: Word, **settings: Any) -> str:
        """Standard output of a command that has to succeed."""
        done = self(*words, **settings)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr or done.stdout}"
        return done.stdout

    def json(self, *words: Word, **settings: Any) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.ok(*words, **settings))

    def refused(self, *words: Word, code: int = 1, **settings: Any) -> str:
        """What is said, in one sentence of ours, by a command that has to fail."""
        done = self(*words, **settings)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert done.stderr.startswith("rootless-oci: "), done.stderr
        for word in ("internal error", "Traceback"):
            assert word not in done.stderr
        return done.stderr.removeprefix("rootless-oci: ").rstrip("\n")

    def state(self, container_id: str) -> dict[str, Any]:
        """The verb state."""
        found: dict[str, Any] = self.json("state", container_id)
        return found

    def running(self, container_id: str, *command: str, **changes: Any) -> int:
        """Create and start a container of a new bundle; returns its pid."""
        bundle = self.bundle(*(command or ("sleep", "1000")), **changes)
        self.ok("create", "--bundle", bundle, container_id)
        self.ok("start", container_id)
        return int(self.state(container_id)["pid"])

    def console(self) -> ConsoleSocket:
        """A new listener for terminals."""
        self._consoles.append(ConsoleSocket(self.directory / f"console{len(self._consoles)}"))
        return self._consoles[-1]

    # -- the end ----------------------------------------------------------------------------------

    def wait(self, pid: int) -> int:
        """How an adopted process 1 ended, as a shell would say it."""
        assert waiting.ended(os.pidfd_open(pid)), f"process {pid} does not end"
        return _exit_code(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        """Remove every container that is left, in whatever state."""
        for console in self._consoles:
            console.close()
        for name in sorted(os.listdir(self.root)) if self.root.exists() else ():
            self.ok("delete", "--force", name)
        reap()


def reap() -> list[int]:
    """Forget adopted children that have ended; returns the pids of those that go on."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def serving(directory: Path, make_rootfs: Callable[..., Path]) -> Iterator[Runtime]:
    """A runtime whose containers are gone at the end; a process, mount or directory left fails."""
    directory.mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    prctl.set_child_subreaper(True)
    runtime = Runtime(directory, make_rootfs)
    try:
        yield runtime
        runtime.close()
        assert waiting.until(lambda: not reap()), f"processes are left: {reap()}"
        left = os.listdir(runtime.root) if runtime.root.exists() else []
        assert left == [], "state directories are left"
        assert Path("/proc/self/mountinfo").read_text() == before, "mounts are left"
    finally:
        for pid in reap():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        prctl.set_child_subreaper(False)


class ConsoleSocket:
    """The listener that gets the master of a container's terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.settimeout(waiting.TIME_LIMIT)

    def master(self) -> int:
        """The descriptor that the next runtime sends; the caller closes it."""
        connection, _ = self._listening.accept()
        with connection:
            connection.settimeout(waiting.TIME_LIMIT)
            _, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_LEN(4))
        ((_, _, data),) = ancillary
        fds = array.array("i")
        fds.frombytes(data[:4])
        return fds[0]

    def close(self) -> None:
        """No more terminals."""
        self._listening.close()


def read_terminal(master: int, ending: str = "") -> str:
    """What comes from a terminal until `ending`, or until its other side is closed; closes it."""
    text = b""
    try:
        while not (ending and ending.encode() in text):
            data = os.read(master, 4096)
            if not data:
                break
            text += data
    except OSError:  # EIO: nobody has the other end any more
        pass
    os.close(master)
    return text.decode().replace("\r\n", "\n")
