"""`make test-fast` runs fast tests only, and makes sure that they are fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fast import SLOW_PATHS, TESTS

ROOT = TESTS.parent
LIAR = """
import subprocess
import sys


def test_an_import():
    import {module}


def test_an_import_of_a_child():
    subprocess.run([sys.executable, "-c", "import {module}"], check=True)
"""


def run(program: str, tmp_path: Path) -> str:
    """What pytest prints when it runs one file of tests as fast ones."""
    file = tmp_path / "test_claims.py"
    file.write_text(program)
    command = [sys.executable, "-m", "pytest", "-p", "tests.fast", "-p", "no:cacheprovider", "--noconftest"]
    arguments = [*command, "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml"), str(file)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("module", ["torch", "mlc_serve.compiler"])
def test_a_fast_test_can_not_import_what_is_slow(tmp_path: Path, module: str) -> None:
    """A fast test that imports a slow module fails, and so does one whose child process imports it."""
    printed = run(LIAR.format(module=module), tmp_path)
    assert f"a fast test may not import {module}" in printed
    assert "2 failed" in printed


def test_a_slow_test_is_left_out(tmp_path: Path) -> None:
    """A test that is marked as slow is left out, and the others run."""
    printed = run(
        "import pytest\n\n\n@pytest.mark.slow\ndef test_a(): ...\n\n\ndef test_b(): ...\n", tmp_path
    )
    assert "1 passed, 1 deselected" in printed


def test_what_is_left_out_is_there() -> None:
    """The list of slow modules and directories has no stale entry."""
    assert [path for path in SLOW_PATHS if not (TESTS / path).exists()] == []
