# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the native programs of the wheel.

helpers/launcher.c becomes the console commands, helpers/init.c becomes rootless/bin/init. Without a
C compiler the commands are helpers/launcher.sh and `run --init` is not available; both are said.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

# setuptools has no build_scripts of its own, and serves this name once it is imported.
from distutils.command.build_scripts import build_scripts  # isort: skip

HERE = Path(__file__).resolve().parent
COMMANDS = ("rootless", "rootless-oci")
FLAGS = ("-std=c11", "-Os", "-s", "-Wall", "-Wextra", "-Werror=implicit-function-declaration")
# Static, musl first: half a millisecond less to start than a dynamic program, and init.c runs inside
# root file systems that have no C library, or another one.
STATIC = (("musl-gcc", "-static"), ("cc", "-static"))
ANY = (*STATIC, ("cc",))


def compile_program(
    source: str, target: Path, compilers: tuple[tuple[str, ...], ...], *defines: str
) -> bool:
    """Build helpers/`source` as `target` with the first compiler that manages; False if none does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for compiler, *options in compilers:
        if shutil.which(compiler) is None:
            failures.append(f"{compiler}: not found")
            continue
        command = [compiler, *FLAGS, *options, *defines, "-o", str(target), f"helpers/{source}"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return True
        failures.append(f"{' '.join(command)}: {done.stderr.strip()}")
    target.unlink(missing_ok=True)
    logging.warning("rootless: cannot compile helpers/%s:\n  %s", source, "\n  ".join(failures))
    return False


class BuildCommands(build_scripts):
    """The console commands, as data scripts of the wheel."""

    editable_mode = False  # set by setuptools for `pip install -e`

    def get_source_files(self) -> list[str]:
        """For the sdist, which takes helpers/ through MANIFEST.in."""
        return []

    def run(self) -> None:
        """Compile the launcher once for each name, or lay the shell script there."""
        package = str(HERE / "rootless") if self.editable_mode else ""
        defines = [f'-DROOTLESS_PACKAGE="{package}"'] if package else []
        for name in COMMANDS:
            target = Path(self.build_dir) / name
            if not compile_program("launcher.c", target, ANY, *defines):
                logging.warning("rootless: `%s` becomes a shell script, a little slower", name)
                text = (HERE / "helpers" / "launcher.sh").read_text()
                target.write_text(text.replace("package=''", f"package='{package}'", 1))
            target.chmod(0o755)


class BuildPackage(build_py):
    """The package, with rootless/bin/init beside the Python files."""

    def _init_program(self) -> Path:
        base = HERE if self.editable_mode else Path(self.build_lib)
        return base / "rootless" / "bin" / "init"

    def run(self) -> None:
        """Copy the package, then compile what belongs into it."""
        super().run()
        if not compile_program("init.c", self._init_program(), STATIC):
            logging.warning("rootless: without rootless/bin/init `run --init` is not available")
        profile = self._init_program().with_name("seccomp.json")
        profile.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "helpers" / "seccomp.json", profile)
        if not self.editable_mode:  # sources that change must not be hidden by their former selves
            self._preload_file().write_bytes(preloaded(Path(self.build_lib)))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """The files of the package, the compiled one included."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        program = self._init_program()
        outputs.append(str(program.with_name("seccomp.json")))
        if not self.editable_mode:
            outputs.append(str(self._preload_file()))
        return [*outputs, str(program)] if program.exists() else outputs

    def _preload_file(self) -> Path:
        return self._init_program().with_name(f"hot.{sys.implementation.cache_tag}")


def preloaded(root: Path) -> bytes:
    """The code of what is imported on the way to a container, from the package below `root`.

    Which modules those are an interpreter says that has just imported them.
    """
    imports = (
        "rootless.cli.run, rootless.storage.locks, rootless.cli.oci.run, rootless.cli.oci.exec,"
        "rootless.cli.oci.start"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import rootless.cli.main, {imports};"
        "print(*(name for name in sys.modules if name.partition('.')[0] == 'rootless'))"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", program]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    modules = {}
    for name in names:
        place = root.joinpath(*name.split("."))
        is_package = place.is_dir()
        source = place / "__init__.py" if is_package else place.with_suffix(".py")
        # Without docstrings: nothing on this way prints one.
        code = compile(source.read_bytes(), str(source.relative_to(root)), "exec", optimize=2)
        modules[name] = (is_package, code)
    sys.path.insert(0, str(root))
    from rootless import preload

    return preload.pack(modules)


class PlatformWheel(bdist_wheel):
    """A wheel for this processor and for every Python version: no extension module is in it."""

    def get_tag(self) -> tuple[str, str, str]:
        """py3-none-<platform>."""
        return ("py3", "none", super().get_tag()[2])


class NativeDistribution(Distribution):
    """Says that the wheel is not pure, which moves it from `any` to this platform."""

    def has_ext_modules(self) -> bool:
        """True: there are native programs."""
        return True


setup(
    distclass=NativeDistribution,
    scripts=list(COMMANDS),
    cmdclass={
        "bdist_wheel": PlatformWheel,
        "build_py": BuildPackage,
        "build_scripts": BuildCommands,
    },
)
