"""Kernels for sampling, taken from a library. test_rows.py tests what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from mlc_serve.compiler.kernels.cpu.sampling.kernels import KERNELS
from mlc_serve.compiler.target import target_for
from mlc_serve.runtime.compiled_rows import CompiledRows, rows_for
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.rows import NumPyRows


def write_library(path: Path, kernels: list[str]) -> Path:
    """A library with some kernels and with the functions of a model, which do nothing."""
    builder = relax.BlockBuilder()
    for name in ("_metadata", "embed", "batch_prefill", "batch_decode"):
        with builder.function(name, params=[]):
            builder.emit_func_output(tvm.ir.StringImm("{}"))
    module = builder.finalize()
    for name in kernels:
        module[name] = KERNELS[name]().with_attr("global_symbol", name)
    tvm.compile(module, target=target_for("cpu")).export_library(str(path))
    return path


def test_a_library_s_kernels_are_used(tmp_path: Path) -> None:
    """The library's kernels are used if it has all that sampling needs."""
    library = Library(write_library(tmp_path / "a.so", list(KERNELS)), tvm.cpu())
    assert all(library.has_kernel(name) for name in KERNELS)
    rows = rows_for(library)
    assert isinstance(rows, CompiledRows)
    logits = np.array([[1, 5, 2], [3, 0, 1]], np.float32)
    assert rows.choose(logits, np.array([[0, 3, 1, 0, 0.5]] * 2, np.float64)).tokens.tolist() == [1, 0]


@pytest.mark.parametrize("kernels", [[], ["choose_tokens"]])
def test_numpy_does_without(tmp_path: Path, kernels: list[str]) -> None:
    """Without all of the sampling kernels, as in libraries for other devices, NumPy does the work."""
    library = Library(write_library(tmp_path / "a.so", kernels), tvm.cpu())
    assert isinstance(rows_for(library), NumPyRows)
