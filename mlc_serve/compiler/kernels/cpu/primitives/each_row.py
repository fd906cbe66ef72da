"""Rows of activations as tasks."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import FEW_ROWS


def each_row_macro(row_of: Any) -> Any:
    """The macro `each_row(operands, num_rows)`: call the macro `row_of(operands, row)` for each row, on all
    threads unless there are too few rows.
    """

    @T.macro
    def each_row(operands, num_rows):
        if num_rows > FEW_ROWS:
            for row in T.parallel(num_rows):
                row_of(operands, row)
        else:
            for row in T.serial(num_rows):
                row_of(operands, row)

    return each_row
