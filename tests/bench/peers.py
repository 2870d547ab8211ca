# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared: each with a store and a configuration of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from rootless.runtime import default_spec, idmap, userns
from tests.bench.measure import Contender
from tests.lib.abilities import find_program

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


class Engine:
    """rootless or podman with one union driver: how it pulls an image and runs it.

    `fresh` begins a new store. None is emptied: for minutes after files were deleted ext4 looks at
    each of their inodes before it takes another, and that would be most of what a pull costs.
    """

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command
        self.environ = dict(os.environ)
        self.stores = 0
        self.fresh()

    def fresh(self) -> None:
        """Go on with an empty store."""
        raise NotImplementedError

    def output(self, *arguments: str) -> str:
        """What one command prints, which has to succeed."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def pull(self, image: str) -> None:
        """Pull over plain HTTP."""
        self.output("pull", "--quiet", "--tls-verify=false", image)

    def running(self, image: str) -> Contender:
        """`run --rm --network=none IMAGE true`."""
        command = [*self.command, "run", "--rm", "--network=none", image, "true"]
        return Contender(self.name, command, self.environ)

    def pulling(self, image: str) -> Contender:
        """`pull IMAGE` into a store that is new and ready."""

        def before() -> None:
            self.fresh()
            self.output("info")
            # Ours waits for the disk and podman does not: nobody waits for what the other wrote.
            os.sync()

        command = [*self.command, "pull", "--quiet", "--tls-verify=false", image]
        return Contender(self.name, command, self.environ, before)

    def pulling_again(self, image: str) -> Contender:
        """`pull IMAGE` of a tag that is here and has not changed."""
        command = [*self.command, "pull", "--quiet", "--tls-verify=false", image]
        return Contender(self.name, command, self.environ)

    def pushing(self, image: str, before: Callable[[], None]) -> Contender:
        """`push IMAGE` to a registry that has nothing of it, which `before` sees to."""
        command = [*self.command, "push", "--quiet", "--tls-verify=false", image]
        return Contender(self.name, command, self.environ, before)

    def close(self) -> None:
        """Leave nothing running."""


class Rootless(Engine):
    """Ours, from the environment that runs this."""

    def __init__(self, directory: Path, driver: str) -> None:
        self.directory = directory
        self.driver = driver
        super().__init__("rootless", [str(Path(sys.executable).with_name("rootless"))])

    def fresh(self) -> None:
        """Both directories are named by the environment."""
        self.stores += 1
        run = self.directory / "run"
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.environ["ROOTLESS_ROOT"] = str(self.directory / f"store{self.stores}")
        self.environ["ROOTLESS_RUN"] = str(run)

    def running(self, image: str, *more: str) -> Contender:
        """With the union driver named, as podman's configuration names its own; `more` options."""
        options = ["run", "--rm", "--network=none", f"--storage-driver={self.driver}", *more]
        return Contender(self.name, [*self.command, *options, image, "true"], self.environ)


class Podman(Engine):
    """podman with the overlay driver, mounted by the kernel or by fuse-overlayfs."""

    def __init__(self, directory: Path, driver: str) -> None:
        self.directory = directory
        self.mounter = ""
        if driver == "fuse":
            self.mounter = f'mount_program = "{find_program("fuse-overlayfs")}"'
        # A short path: with a long one podman misses the end of its container and waits 20 s for it.
        self.run = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"), f"bench-{driver}")
        super().__init__("podman", [str(find_program("podman"))])

    def fresh(self) -> None:
        """The directories are named by storage.conf."""
        self.stores += 1
        config = self.directory / "config" / "containers"
        for folder in (config, self.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (config / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.directory}/store{self.stores}"\n'
            f'runroot = "{self.run}/{self.stores}"\n[storage.options.overlay]\n{self.mounter}\n'
        )
        (config / "policy.json").write_text(POLICY)
        self.environ["HOME"] = str(self.directory)
        self.environ["XDG_CONFIG_HOME"] = str(self.directory / "config")
        self.environ["XDG_RUNTIME_DIR"] = str(self.run)

    def close(self) -> None:
        """End the process that keeps podman's user namespace."""
        self.output("system", "migrate")
        shutil.rmtree(self.run)


def remove(directory: Path) -> None:
    """Delete a directory whose files may belong to subordinate ids, ours or podman's."""
    if directory.exists():
        userns.remove_tree(idmap.default(), str(directory))


def unpacked(layout: Path, directory: Path) -> Path:
    """The root file system of a small image as a plain directory, for runtimes without images."""
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    for name in ("dev", "proc", "sys", "bin"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    with tarfile.open(blobs / manifest["layers"][0]["digest"][7:]) as layer:
        for entry in layer:
            target = directory / entry.name
            content = layer.extractfile(entry) if entry.isreg() else None
            if content is None:
                target.unlink(missing_ok=True)
                target.symlink_to(entry.linkname)
            else:
                target.write_bytes(content.read())
                target.chmod(0o755)
    return directory


def crun(layout: Path, directory: Path) -> Contender:
    """`crun run` of a bundle that is ready: what a runtime alone takes."""
    return Runtime("crun", layout, directory).running()


class Runtime:
    """An OCI runtime, crun or ours, and a bundle that is ready: the same one for everybody."""

    def __init__(self, name: str, layout: Path, directory: Path) -> None:
        self.name = name
        self.directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        unpacked(layout, directory / "rootfs")
        config = default_spec.default(rootless=True)
        config["ociVersion"] = "1.0.2"  # Debian's crun knows no later one
        config["process"].update(terminal=False, args=["/bin/true"])
        self.config = config
        self._write()
        program = str(find_program("crun"))
        if name == "rootless":
            program = str(Path(sys.executable).with_name("rootless-oci"))
        self.command = [program, "--root", f"{directory}/run", "--cgroup-manager=disabled"]

    def _write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.config))

    def running(self) -> Contender:
        """`run`: the whole life of a container."""
        words = ["run", "--bundle", str(self.directory), "bench"]
        return Contender(self.name, [*self.command, *words])

    def step_by_step(self) -> Contender:
        """`create`, `start` and `delete`, one after the other, as an engine calls them."""
        words = " ".join(self.command)
        script = (
            f"{words} create --bundle {self.directory} bench && {words} start bench &&"
            f" {words} delete --force bench"
        )
        return Contender(self.name, ["sh", "-c", script])

    def entering(self) -> Contender:
        """`exec` in a container that runs; `end` has to be called."""
        self.config["process"]["args"] = ["/bin/busybox", "sleep", "1000"]
        self._write()
        null = subprocess.DEVNULL
        words = ["run", "--detach", "--bundle", str(self.directory), "bench"]
        subprocess.run([*self.command, *words], check=True, stdin=null, stdout=null, stderr=null)
        return Contender(self.name, [*self.command, "exec", "bench", "/bin/true"])

    def end(self) -> None:
        """Delete the container that `entering` made."""
        subprocess.run([*self.command, "delete", "--force", "bench"], check=True)


def bubblewrap(layout: Path, directory: Path) -> Contender:
    """bwrap with every namespace: close to the least that a container can take."""
    shutil.rmtree(directory, ignore_errors=True)
    unpacked(layout, directory)
    command = [str(find_program("bwrap")), "--unshare-all", "--bind", str(directory), "/",
               "--proc", "/proc", "--dev", "/dev", "/bin/true"]  # fmt: skip
    return Contender("bwrap", command)
