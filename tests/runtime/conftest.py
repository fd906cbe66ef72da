"""The sampler's operations on logits, in NumPy and as compiled kernels."""

from __future__ import annotations

import pytest
import tvm

from mlc_serve.compiler.kernels.cpu.sampling.kernels import KERNELS
from mlc_serve.compiler.target import target_for
from mlc_serve.runtime.compiled_rows import CompiledRows
from mlc_serve.runtime.rows import NumPyRows, RowOperations


@pytest.fixture(scope="session")
def compiled_rows() -> CompiledRows:
    """The sampling kernels, compiled for this machine."""
    module = tvm.IRModule(
        {name: kernel().with_attr("global_symbol", name) for name, kernel in KERNELS.items()}
    )
    return CompiledRows(tvm.compile(module, target=target_for("cpu")).__getitem__)


@pytest.fixture(params=["numpy", "compiled"])
def rows(request: pytest.FixtureRequest, compiled_rows: CompiledRows) -> RowOperations:
    """Each of the two implementations in turn."""
    return NumPyRows() if request.param == "numpy" else compiled_rows
