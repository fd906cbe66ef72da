"""Gate and up of all experts: rows of pairs to inner values. A task is an expert and two tiles."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.experts.assignment import Assignment, BusyExpert
from mlc_serve.compiler.kernels.cpu.experts.gate import gated
from mlc_serve.compiler.kernels.cpu.experts.target import TileRow, busy_expert_macro, each_lane_macro
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, all_rows_macro
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.packing import LANES, expert_columns

_TASKS_IN_TURN = 8  # of an expert, so that its rows are still in the cache


def project_in_macro(experts: Experts, hidden: int, arithmetic: Arithmetic) -> Any:
    """The macro `project_in(rows, weight, bias, pairs, H, num_pairs)`: rows of pairs -> inner values
    `(1, P, inner)`.
    """
    columns = expert_columns(2 * experts.inner, 2)
    tiling = Tiling.fit(
        columns, arithmetic.num_steps(hidden), 4 * hidden, Epilogue(gated=True), arithmetic.room
    )
    step, fetch = arithmetic.step_macro(hidden, 2), arithmetic.fetch_macro(2)
    all_rows = all_rows_macro(tiling, step, _store_macro(experts), fetch)
    tiles = columns // LANES  # of an expert
    num_tasks = tiles // 2  # of an expert
    one_task = busy_expert_macro(arithmetic, all_rows, tiles, _next_tile)
    in_turn = next(n for n in range(_TASKS_IN_TURN, 0, -1) if num_tasks % n == 0)

    @T.macro
    def project_in(rows, weight, bias, pairs, H, num_pairs):
        most_busy = T.meta_var(T.min(num_pairs, T.int64(experts.num_experts)))
        # Threads take equal shares of the tasks in their order. Experts have different numbers of rows, so
        # a share has some tasks of each.
        for task in T.parallel(num_tasks * most_busy):
            if task // in_turn % most_busy < pairs.num_busy[0]:
                one_task(
                    rows,
                    weight,
                    bias,
                    pairs,
                    H,
                    task // in_turn % most_busy,
                    (task // in_turn // most_busy * in_turn + task % in_turn) * 2,
                )

    return project_in


def _next_tile(_pairs: Assignment, _place: Any, busy: BusyExpert, tiles: int, tile: Any) -> Any:
    """The next task is mostly of the same expert."""
    return busy.expert[0] * tiles + tile + 2


def _store_macro(experts: Experts) -> Any:
    """The store of `all_rows_macro`: add the bias and apply the activation."""
    inner = experts.inner

    def gate_up(at: TileRow, tile: Any, lane: Any) -> tuple[Any, Any]:
        gate, up = at.totals[at.register, lane], at.totals[at.register + 1, lane]
        if not experts.bias:
            return gate, up
        column = at.target.expert * (2 * inner) + tile * LANES + lane
        return gate + at.target.bias[column], up + at.target.bias[column + inner]

    @T.macro
    def value(at, tile, lane):
        at.out[0, at.row, tile * LANES + lane] = gated(experts.activation, *gate_up(at, tile, lane))

    each_lane = each_lane_macro(value, inner)

    @T.macro
    def store(totals, to, H, row, tile, height):
        for i in T.unroll(height):
            each_lane(TileRow(totals, i * 2, to, H, row + i), (tile - to.first_tile) // 2)

    return store
