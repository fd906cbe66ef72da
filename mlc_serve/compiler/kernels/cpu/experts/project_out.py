"""Down of all experts: inner values of pairs to rows of the result. A task is a tile of the result."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.experts.target import Target, each_lane_macro
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, all_rows_macro
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.packing import LANES, expert_columns


def project_out_macro(experts: Experts, hidden: int, arithmetic: Arithmetic) -> Any:
    """The macro `project_out(rows, weight, bias, pairs, R, Y, start, count)`: inner rows of pairs, and a
    residual R -> `count` rows of Y from `start`.
    """
    columns, inner = expert_columns(hidden, 1), experts.inner
    tiling = Tiling.fit(columns, arithmetic.num_steps(inner), 4 * inner, "none", arithmetic.room)
    tiles = tiling.tiles  # of a task
    step, fetch = arithmetic.step_macro(inner, tiles), arithmetic.fetch_macro(tiles)
    all_rows = all_rows_macro(tiling, step, _store_macro(experts, hidden, tiles), fetch)
    tiles_each = columns // LANES  # of an expert

    @T.macro
    def copy_value(operands, tile, lane):
        R, Y, row = operands
        Y[0, row, tile * LANES + lane] = R[0, row, tile * LANES + lane]

    copy_lanes = each_lane_macro(copy_value, hidden)

    @T.macro
    def one_expert(rows, weight, bias, pairs, Y, expert, next_expert, tile):
        all_rows(
            arithmetic.operands(rows, weight),
            Target(bias, expert, expert * tiles_each, pairs),
            Y,
            pairs.firsts[expert],
            pairs.firsts[expert + 1] - pairs.firsts[expert],
            expert * tiles_each + tile,
            next_expert * tiles_each + tile,
        )

    @T.macro
    def project_out(rows, weight, bias, pairs, R, Y, start, count):
        for task in T.parallel(tiles_each // tiles):
            for row in T.serial(count):
                for j in T.unroll(tiles):
                    copy_lanes((R, Y, start + row), task * tiles + j)
            for i in T.serial(pairs.num_busy[0]):
                one_expert(
                    rows,
                    weight,
                    bias,
                    pairs,
                    Y,
                    pairs.busy[i],
                    pairs.busy[T.min(i + T.int64(1), pairs.num_busy[0] - T.int64(1))],
                    task * tiles,
                )

    return project_out


def _store_macro(experts: Experts, hidden: int, tiles: int) -> Any:
    """The store of `all_rows_macro`: add the bias, and add the pair's share to its token's row."""

    def result(totals: Any, to: Target, register: Any, tile: Any, lane: Any) -> Any:
        total = totals[register, lane]
        return total + to.bias[to.expert * hidden + tile * LANES + lane] if experts.bias else total

    @T.macro
    def value(operands, tile, lane):
        totals, to, Y, pair, register = operands
        Y[0, to.pairs.tokens[pair], tile * LANES + lane] = Y[
            0, to.pairs.tokens[pair], tile * LANES + lane
        ] + to.pairs.shares[pair] * result(totals, to, register, tile, lane)

    each_lane = each_lane_macro(value, hidden)

    @T.macro
    def store(totals, to, Y, row, tile, height):
        for i in T.unroll(height):
            for j in T.unroll(tiles):
                each_lane((totals, to, Y, row + i, i * tiles + j), tile - to.first_tile + j)

    return store
