"""The last step of a product, on its sums in registers: add a bias or a residual, or apply SiLU."""

from __future__ import annotations

from typing import Any, Literal

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.quantization.packing import LANES, num_tiles

# The sums alone, plus a bias, plus a residual, or SiLU(even tiles) * odd tiles.
Epilogue = Literal["none", "bias", "residual", "gated"]


def out_columns(num_columns: int, epilogue: Epilogue) -> int:
    """How many columns the result of a product has if its weight has `num_columns`."""
    return num_columns // 2 if epilogue == "gated" else num_columns


def has_extra(epilogue: Epilogue) -> bool:
    """Whether the epilogue adds a tensor."""
    return epilogue in ("bias", "residual")


def extra_shape(num_columns: int, num_rows: Any, epilogue: Epilogue) -> tuple[Any, ...]:
    """The shape of the bias or the residual, which is float32."""
    return (num_columns,) if epilogue == "bias" else (1, num_rows, num_columns)


def store_macro(num_columns: int, epilogue: Epilogue, out_dtype: str, tiles: int) -> Any:
    """The macro `store(totals, E, Y, row, tile, height)`: write totals `(height * tiles, 16)` float32, of
    `height` rows from `row` and of `tiles` tiles (two for "gated") from `tile`, to Y `(1, s, N)`. E is the
    bias `(N,)` or the residual `(1, s, N)`; other epilogues do not read it.
    """
    last_tile = num_tiles(num_columns) - 1
    last_width = num_columns - last_tile * LANES

    @T.macro
    def value(totals, E, Y, row, tile, register, lane):
        if epilogue == "bias":
            Y[0, row, tile * LANES + lane] = T.Cast(
                out_dtype, totals[register, lane] + E[tile * LANES + lane]
            )
        elif epilogue == "residual":
            Y[0, row, tile * LANES + lane] = T.Cast(
                out_dtype, totals[register, lane] + E[0, row, tile * LANES + lane]
            )
        else:
            Y[0, row, tile * LANES + lane] = T.Cast(out_dtype, totals[register, lane])

    @T.macro
    def store_tile(totals, E, Y, row, tile, register):
        if last_width == LANES or tile < last_tile:
            for lane in T.vectorized(LANES):
                value(totals, E, Y, row, tile, register, lane)
        else:
            for lane in T.serial(last_width):
                value(totals, E, Y, row, tile, register, lane)

    @T.macro
    def store_gated(totals, Y, row, tile, register):
        for lane in T.vectorized(LANES):
            Y[0, row, tile // 2 * LANES + lane] = T.Cast(
                out_dtype,
                totals[register, lane] * sigmoid(totals[register, lane]) * totals[register + 1, lane],
            )

    @T.macro
    def store(totals, E, Y, row, tile, height):
        for i in T.unroll(height):
            if epilogue == "gated":
                store_gated(totals, Y, row + i, tile, i * 2)
            else:
                for j in T.unroll(tiles):
                    store_tile(totals, E, Y, row + i, tile + j, i * tiles + j)

    return store
