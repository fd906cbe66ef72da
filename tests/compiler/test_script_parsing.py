"""Our shortcuts through TVM's parser of scripts."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tvm.error import DiagnosticError

from mlc_serve.compiler.script_parsing import take_shorter_ways
from tests.compiler.script import scaled, undefined


def test_a_kernel_is_what_tvm_itself_makes_of_its_script() -> None:
    """With the shortcuts a kernel is the same as in another process, which takes none of them."""
    program = "from tests.compiler.script import scaled; print(scaled(3).script())"
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    take_shorter_ways()
    assert scaled(3).script() == theirs.stdout.rstrip("\n")


def test_a_name_that_is_not_there_is_still_told() -> None:
    """An undefined name still raises TVM's error, which has the name."""
    take_shorter_ways()
    with pytest.raises(DiagnosticError, match="nowhere"):
        undefined()
