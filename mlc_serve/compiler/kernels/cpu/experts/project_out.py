"""Down of all experts: inner values of pairs to rows of the result. A task is a tile of the result."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.experts.assignment import Assignment, BusyExpert
from mlc_serve.compiler.kernels.cpu.experts.target import TileRow, busy_expert_macro, each_lane_macro
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, all_rows_macro
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.packing import LANES, expert_columns


def project_out_macro(experts: Experts, hidden: int, arithmetic: Arithmetic) -> Any:
    """The macro `project_out(rows, weight, bias, pairs, R, Y, start, count)`: inner rows of pairs, and a
    residual R -> `count` rows of Y from `start`.
    """
    columns, inner = expert_columns(hidden, 1), experts.inner
    tiling = Tiling.fit(columns, arithmetic.num_steps(inner), 4 * inner, Epilogue(), arithmetic.room)
    tiles = tiling.tiles  # of a task
    step, fetch = arithmetic.step_macro(inner, tiles), arithmetic.fetch_macro(tiles)
    all_rows = all_rows_macro(tiling, step, _store_macro(experts, hidden, tiles), fetch)
    copy = _copy_macro(hidden, tiles)
    tiles_each = columns // LANES  # of an expert
    one_expert = busy_expert_macro(arithmetic, all_rows, tiles_each, _next_tile)

    @T.macro
    def project_out(rows, weight, bias, pairs, R, Y, start, count):
        for task in T.parallel(tiles_each // tiles):
            copy(R, Y, start, count, task * tiles)
            for i in T.serial(pairs.num_busy[0]):
                one_expert(rows, weight, bias, pairs, Y, i, task * tiles)

    return project_out


def _next_tile(pairs: Assignment, place: Any, _busy: BusyExpert, tiles: int, tile: Any) -> Any:
    """The same tile of the next busy expert."""
    return pairs.busy[T.min(place + 1, pairs.num_busy[0] - 1)] * tiles + tile


def _copy_macro(hidden: int, tiles: int) -> Any:
    """The macro `copy(R, Y, start, count, tile)`: the columns of the tiles from `tile`, of `count` rows from
    `start`.
    """

    @T.macro
    def copy(R, Y, start, count, tile):
        for row in T.serial(count):
            for i in T.serial(T.min(tiles * LANES, hidden - tile * LANES)):
                Y[0, start + row, tile * LANES + i] = R[0, start + row, tile * LANES + i]

    return copy


def _store_macro(experts: Experts, hidden: int, tiles: int) -> Any:
    """The store of `all_rows_macro`: add the bias, and add the pair's share to its token's row."""

    def result(at: TileRow, tile: Any, lane: Any) -> Any:
        total = at.totals[at.register, lane]
        column = at.target.expert * hidden + tile * LANES + lane
        return total + at.target.bias[column] if experts.bias else total

    @T.macro
    def value(at, tile, lane):
        token = T.meta_var(at.target.pairs.tokens[at.row])
        at.out[0, token, tile * LANES + lane] = at.out[
            0, token, tile * LANES + lane
        ] + at.target.pairs.shares[at.row] * result(at, tile, lane)

    each_lane = each_lane_macro(value, hidden)

    @T.macro
    def store(totals, to, Y, row, tile, height):
        for i in T.unroll(height):
            for j in T.unroll(tiles):
                each_lane(TileRow(totals, i * tiles + j, to, Y, row + i), tile - to.first_tile + j)

    return store
