"""Where the sums of a product with one expert's weight go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.experts.assignment import Assignment, BusyExpert, find_busy
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


def busy_expert_macro(
    arithmetic: Arithmetic, all_rows: Any, tiles: int, next_tile: Callable[..., Any]
) -> Any:
    """The macro `one_expert(rows, weight, bias, pairs, out, place, tile)`: multiply the rows of the busy
    expert with the number `place` by the tile `tile` of its `tiles`, and by those that are computed with it.
    `next_tile(pairs, place, busy, tiles, tile)` returns the tile that the thread reads next.
    """

    @T.macro
    def one_expert(rows, weight, bias, pairs, out, place, tile):
        with T.sblock("expert"):
            T.reads()
            T.writes()
            busy = T.meta_var(BusyExpert.allocate())
            find_busy(pairs, place, busy)
            all_rows(
                arithmetic.operands(rows, weight),
                Target(bias, busy.expert[0], busy.expert[0] * tiles, pairs),
                out,
                busy.first[0],
                busy.count[0],
                busy.expert[0] * tiles + tile,
                next_tile(pairs, place, busy, tiles, tile),
            )

    return one_expert


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
