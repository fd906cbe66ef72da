"""The wheel has all of the package, and works where only its dependencies are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_serve import __version__

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("LICENSE", "README.md", "mlc_serve", "pyproject.toml")
IMPORTS_RAY = re.compile(r"^(import|from) ray\b", re.MULTILINE)
# Imports each module that is named on stdin.
IMPORT_ALL = "import importlib, sys\nfor name in sys.stdin.read().split(): importlib.import_module(name)"


def run(command: list[str], *, cwd: Path, text: str = "") -> str:
    """What a command prints; the test fails if the command does."""
    result = subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def files(package: Path) -> set[str]:
    """The files of a package, without Python's caches."""
    names = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    return {name for name in names if "__pycache__" not in name}


def modules() -> Iterator[str]:
    """The dotted names of the package's modules, without those that need Ray, an optional dependency."""
    for path in sorted((ROOT / "mlc_serve").rglob("*.py")):
        if IMPORTS_RAY.search(path.read_text("utf-8")):
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, which finds the dependencies where this process does."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(source)],
        cwd=directory,
    )
    (wheel,) = directory.glob("*.whl")
    environment = directory / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], cwd=directory)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], cwd=directory)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A directory that a .pth file names is searched last, and .pth files in it are not read: an editable
    # installation of this package is not found there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_the_wheel_has_every_file(environment: Path) -> None:
    """The wheel has just the package's files, including the demo model, the page and py.typed."""
    (package,) = environment.glob("lib/python*/site-packages/mlc_serve")
    assert files(package) == files(ROOT / "mlc_serve")


def test_its_program_runs(environment: Path, tmp_path: Path) -> None:
    """The installed program prints its version, which is also the distribution's, and its commands."""
    program = str(environment / "bin" / "mlc_serve")
    assert run([program, "--version"], cwd=tmp_path) == f"mlc_serve {__version__}\n"
    assert "serve" in run([program, "--help"], cwd=tmp_path)
    ask = "from importlib.metadata import version; print(version('mlc_serve'))"
    python = str(environment / "bin" / "python")
    assert run([python, "-I", "-c", ask], cwd=tmp_path) == f"{__version__}\n"


def test_every_module_can_be_imported(environment: Path, tmp_path: Path) -> None:
    """Every module can be imported from the wheel alone."""
    command = [str(environment / "bin" / "python"), "-I", "-c", IMPORT_ALL]
    run(command, cwd=tmp_path, text="\n".join(modules()))
