"""The last steps of a product, on its sums in registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.activation import activated
from mlc_serve.models.parts.activation import Activation
from mlc_serve.quantization.packing import LANES, num_tiles


@dataclass(frozen=True)
class Epilogue:
    """What is done with the sums, in this order: a bias is added, an activation applied, the result
    multiplied by `scale`, and a residual added.

    If it is gated, tiles of gate and up alternate in the weight, and the result is activation(gate) * up,
    half as wide.
    """

    bias: bool = False
    activation: Activation | None = None
    gated: bool = False
    scale: float = 1.0
    residual: bool = False

    @property
    def name(self) -> str:
        """What the kernel does after the product, as a part of its name."""
        parts = {
            "bias": self.bias,
            "gated": self.gated,
            self.activation: self.activation is not None,
            "scaled": self.scale != 1,
            "residual": self.residual,
        }
        return "_".join(str(part) for part, present in parts.items() if present) or "none"

    def out_columns(self, num_columns: int) -> int:
        """How many columns the result has if the weight has `num_columns`."""
        return num_columns // 2 if self.gated else num_columns


class Addends(NamedTuple):
    """What an epilogue adds, as float32 buffers. What it does not read may be any buffer."""

    bias: Any  # (N,); in a gated product all of gate comes before up
    residual: Any  # (1, s, N)


def store_macro(num_columns: int, epilogue: Epilogue, out_dtype: str, tiles: int) -> Any:
    """The macro `store(totals, addends, Y, row, tile, height)`: write totals `(height * tiles, 16)` float32,
    of `height` rows from `row` and of `tiles` tiles (two if it is gated) from `tile`, to Y `(1, s, N)`.
    """
    store_tile = _store_tile_macro(num_columns, epilogue, out_dtype)
    store_gated = _store_gated_macro(num_columns, epilogue, out_dtype)

    @T.macro
    def store(totals, addends, Y, row, tile, height):
        for i in T.unroll(height):
            if epilogue.gated:
                store_gated(totals, addends, Y, row + i, tile // 2, i * 2)
            else:
                for j in T.unroll(tiles):
                    store_tile(totals, addends, Y, row + i, tile + j, i * tiles + j)

    return store


def _store_tile_macro(num_columns: int, epilogue: Epilogue, out_dtype: str) -> Any:
    """The macro `store_tile(totals, addends, Y, row, tile, register)`."""
    last_tile = num_tiles(num_columns) - 1
    last_width = num_columns - last_tile * LANES
    has_bias, has_activation = epilogue.bias, epilogue.activation is not None

    def columns(is_whole: bool) -> Any:
        return T.vectorized(LANES) if is_whole else T.serial(last_width)

    def result(totals: Any, addends: Addends, row: Any, tile: Any, register: Any, lane: Any) -> Any:
        value = totals[register, lane]
        if epilogue.scale != 1:
            value = value * tirx.const(epilogue.scale, "float32")
        if epilogue.residual:
            value = value + addends.residual[0, row, tile * LANES + lane]
        return tirx.Cast(out_dtype, value)

    @T.macro
    def finish(totals, addends, Y, row, tile, register, is_whole):
        if has_bias:
            for lane in columns(is_whole):
                totals[register, lane] = totals[register, lane] + addends.bias[tile * LANES + lane]
        if has_activation:
            for lane in T.vectorized(LANES):
                totals[register, lane] = activated(epilogue.activation, totals[register, lane])
        for lane in columns(is_whole):
            Y[0, row, tile * LANES + lane] = result(totals, addends, row, tile, register, lane)

    @T.macro
    def store_tile(totals, addends, Y, row, tile, register):
        if last_width == LANES or tile < last_tile:
            finish(totals, addends, Y, row, tile, register, True)
        else:
            finish(totals, addends, Y, row, tile, register, False)

    return store_tile


def _store_gated_macro(num_columns: int, epilogue: Epilogue, out_dtype: str) -> Any:
    """The macro `store_gated(totals, addends, Y, row, pair, register)`: a tile of gate, and one of up in the
    next register.
    """
    half = num_columns // 2

    @T.macro
    def store_gated(totals, addends, Y, row, pair, register):
        if epilogue.bias:
            for lane in T.vectorized(LANES):
                totals[register, lane] = totals[register, lane] + addends.bias[pair * LANES + lane]
            for lane in T.vectorized(LANES):
                totals[register + 1, lane] = (
                    totals[register + 1, lane] + addends.bias[half + pair * LANES + lane]
                )
        for lane in T.vectorized(LANES):
            Y[0, row, pair * LANES + lane] = T.Cast(
                out_dtype,
                activated(epilogue.activation, totals[register, lane]) * totals[register + 1, lane],
            )

    return store_gated
