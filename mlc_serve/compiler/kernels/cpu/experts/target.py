"""Where the sums of a product with one expert's weight go."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.assignment import Assignment
from mlc_serve.quantization.packing import LANES, num_tiles


class Target(NamedTuple):
    """What the store of `all_rows_macro` takes, besides the buffer that it writes."""

    bias: Any  # (E * N,); any buffer if there is none
    expert: Any
    first_tile: Any  # of the expert
    pairs: Assignment


class TileRow(NamedTuple):
    """A row's sums for a tile, and where they go."""

    totals: Any
    register: Any
    target: Target
    out: Any
    row: Any


def each_lane_macro(value: Any, num_columns: int) -> Any:
    """The macro `each_lane(tile_row, tile)`: the macro `value(tile_row, tile, lane)` for each column of a
    tile. The last tile may have fewer than 16.
    """
    last_tile = num_tiles(num_columns) - 1
    last_width = num_columns - last_tile * LANES

    @T.macro
    def each_lane(tile_row, tile):
        if last_width == LANES or tile < last_tile:
            for lane in T.vectorized(LANES):
                value(tile_row, tile, lane)
        else:
            for lane in T.serial(last_width):
                value(tile_row, tile, lane)

    return each_lane
