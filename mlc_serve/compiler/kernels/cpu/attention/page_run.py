"""The queries of one token over the pages of its sequence, a run of pages at a time.

The lanes of a vector are the positions of a page. This is online softmax (Milakov and Gimelshein, 2018) in
base 2, which the KV cache's merge expects, and the output is divided by the weight of its keys only at the
end. The up to four pages of a run are scored together, so that enough independent sums hide the latency of a
multiplication. Pages may lie anywhere in memory, so the next KV head of a run is fetched while one is being
computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.page_table import PageTable
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.horizontal import horizontal_max, horizontal_sum
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.prefetch import fetch_line
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector

MASKED = -5e4  # no real score comes near it, and its weight vanishes once a real score is seen


class TokenState(NamedTuple):
    """Local buffers for one token: what is carried from run to run, for each query head."""

    queries: Any  # (hq, d), scaled
    output: Any  # (hq, d), not divided by `weight`
    peak: Any  # (hq,) the greatest score so far
    weight: Any  # (hq, 16) the sum of 2^(score - peak) so far, over all lanes


class _Registers(NamedTuple):
    """How the sums of a KV head's query heads are kept in registers: those of `together` query heads at a
    time, over all `pages` of a run for scores, and over `width` vectors of a value for output.
    """

    heads: Heads
    together: int
    pages: int
    width: int

    @property
    def step(self) -> int:
        """Values in a vector of a head."""
        return lanes(self.heads.dim)


class _Run(NamedTuple):
    """Local buffers with one element for each page of the run."""

    page: Any
    valid: Any  # how many of its positions hold keys
    ahead: Any  # the page at the same place of the next run


class _RunHead(NamedTuple):
    """A KV head of a run: the sequence, the head, and which of the sequence's pages is the run's first."""

    sequence: Any
    head: Any
    first_page: Any


class PageRuns:
    """The macros for the query heads of a token: `begin`, `attend` for each run of `pages_per_run` pages, and
    `finish`. Registers hold `sums` vectors of sums.
    """

    def __init__(self, heads: Heads, sums: int) -> None:
        together = _divisor(heads.group, sums // 2)
        self.heads, self.pages_per_run = heads, max(1, min(4, sums // together))
        width = _divisor(heads.dim // lanes(heads.dim), sums // together)
        self.begin, self.finish = _begin_macro(heads), _finish_macro(heads)
        self.attend = _attend_macro(_Registers(heads, together, self.pages_per_run, width))


def _divisor(extent: int, limit: int) -> int:
    """The greatest divisor of `extent` that is at most `limit`."""
    return max(n for n in range(1, extent + 1) if extent % n == 0 and n <= max(1, limit))


def _attend_macro(registers: _Registers) -> Any:
    """The macro `attend(P, table, state, b, first, end, last_listed)`: the run of sequence b's pages from
    `first`, as far as they come before `end`.
    """
    num_kv_heads, group, count = registers.heads.num_kv, registers.heads.group, registers.pages
    score, soften = _score_macro(registers), _soften_macro(registers)
    add_values = _add_values_macro(registers)

    @T.macro
    def attend(P, table, state, b, first, end, last_listed):
        with T.sblock("run"):
            T.reads()
            T.writes()
            page = local((count,), "int32")
            valid = local((count,), "int32")
            ahead = local((count,), "int32")
            scores = local((group, count * PAGE_SIZE))
            run = T.meta_var(_Run(page, valid, ahead))
            for p in T.unroll(count):
                page[p] = table.page(b, T.min(first + p, end - 1))
                valid[p] = T.if_then_else(
                    first + p < end, T.min(PAGE_SIZE, table.num_keys(b) - (first + p) * PAGE_SIZE), 0
                )
                ahead[p] = table.listed[T.min(table.indptr[b] + first + count + p, last_listed)]
            for h in T.serial(num_kv_heads):
                score(P, table, state, scores, run, _RunHead(b, h, first))
                soften(state, scores, h)
                add_values(P, state, scores, run, h)

    return attend


def _prefetch_macro(num_kv_heads: int) -> Any:
    """The macro `prefetch(P, run, p, part, h, offset)`: fetch a line of the KV head after h of page p of a
    run; after the last head, of the first head of the page ahead.
    """

    @T.macro
    def prefetch(P, run, p, part, h, offset):
        T.evaluate(
            fetch_line(
                P[
                    T.Select(h + 1 < num_kv_heads, run.page[p], run.ahead[p]),
                    part,
                    T.Select(h + 1 < num_kv_heads, h + 1, 0),
                    offset,
                ]
            )
        )

    return prefetch


def _begin_macro(heads: Heads) -> Any:
    """The macro `begin(Q, state, row, scale)`: the state before any key, for the queries of a row."""

    @T.macro
    def begin(Q, state, row, scale):
        for g in T.serial(heads.num_q):
            state.peak[g] = T.float32(MASKED)
            for t in T.vectorized(PAGE_SIZE):
                state.weight[g, t] = T.float32(1.0 / PAGE_SIZE)
            for i in T.serial(heads.dim):
                state.queries[g, i] = T.Cast("float32", Q[row, g, i]) * scale
                state.output[g, i] = T.float32(0)

    return begin


def _score_macro(registers: _Registers) -> Any:
    """The macro `score(P, table, state, scores, run, at)`: scores of all keys of a run. Keys that do not
    exist or are not seen get MASKED.
    """
    heads, together, count = registers.heads, registers.together, registers.pages
    group = heads.group
    prefetch = _prefetch_macro(heads.num_kv)

    @T.macro
    def add_column(P, state, acc, run, h, first, i):
        for p in T.unroll(count):
            prefetch(P, run, p, 0, h, i * PAGE_SIZE)
            for g in T.unroll(together):
                for t in T.vectorized(PAGE_SIZE):
                    acc[g, p, t] = acc[g, p, t] + state.queries[h * group + first + g, i] * T.Cast(
                        "float32", P[run.page[p], 0, h, i * PAGE_SIZE + t]
                    )

    @T.macro
    def score(P, table: PageTable, state, scores, run, at):
        for part in T.unroll(group // together):
            with T.sblock("scores"):
                T.reads()
                T.writes()
                acc = local((together, count, PAGE_SIZE))
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            acc[g, p, t] = T.float32(0)
                for i in T.serial(heads.dim):
                    add_column(P, state, acc, run, at.head, part * together, i)
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            scores[part * together + g, p * PAGE_SIZE + t] = T.Select(
                                T.And(
                                    t < run.valid[p],
                                    table.sees(at.sequence, (at.first_page + p) * PAGE_SIZE + t),
                                ),
                                acc[g, p, t],
                                T.float32(MASKED),
                            )

    return score


def _soften_macro(registers: _Registers) -> Any:
    """The macro `soften(state, scores, h)`: scores become weights relative to the greatest score so far, and
    the output and weight of earlier runs are scaled to it.
    """
    heads, count, step = registers.heads, registers.pages, registers.step
    group, head_dim = heads.group, heads.dim

    @T.macro
    def soften(state, scores, h):
        for g in T.unroll(group):
            with T.sblock("softmax"):
                T.reads()
                T.writes()
                top = local((PAGE_SIZE,))
                peak = local((1,))
                factor = local((1,))
                for t in T.vectorized(PAGE_SIZE):
                    top[t] = scores[g, t]
                for p in T.unroll(count - 1):
                    for t in T.vectorized(PAGE_SIZE):
                        top[t] = T.max(top[t], scores[g, (p + 1) * PAGE_SIZE + t])
                peak[0] = horizontal_max(top[vector(0, PAGE_SIZE)], PAGE_SIZE)
                if peak[0] > state.peak[h * group + g]:
                    factor[0] = exp2(state.peak[h * group + g] - peak[0])
                    state.peak[h * group + g] = peak[0]
                    for t in T.vectorized(PAGE_SIZE):
                        state.weight[h * group + g, t] = state.weight[h * group + g, t] * factor[0]
                    for i in T.serial(head_dim // step):
                        for lane in T.vectorized(step):
                            state.output[h * group + g, i * step + lane] = (
                                state.output[h * group + g, i * step + lane] * factor[0]
                            )
                for p in T.unroll(count):
                    for t in T.vectorized(PAGE_SIZE):
                        scores[g, p * PAGE_SIZE + t] = exp2(
                            scores[g, p * PAGE_SIZE + t] - state.peak[h * group + g]
                        )
                    for t in T.vectorized(PAGE_SIZE):
                        state.weight[h * group + g, t] = (
                            state.weight[h * group + g, t] + scores[g, p * PAGE_SIZE + t]
                        )

    return soften


def _add_values_macro(registers: _Registers) -> Any:
    """The macro `add_values(P, state, scores, run, h)`: add the values of the keys that exist, by their
    weights. Positions that hold no key may hold anything.
    """
    heads, together, count, width = registers.heads, registers.together, registers.pages, registers.width
    group, head_dim, step = heads.group, heads.dim, registers.step
    prefetch = _prefetch_macro(heads.num_kv)

    @T.macro
    def add_values(P, state, scores, run, h):
        for part, piece in T.grid(group // together, head_dim // step // width):
            with T.sblock("values"):
                T.reads()
                T.writes()
                acc = local((together, width, step))
                first = T.meta_var(part * together)
                query = T.meta_var(h * group + part * together)
                column = T.meta_var(piece * width * step)
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            acc[g, j, lane] = state.output[query + g, column + j * step + lane]
                for p in T.serial(count):
                    for t in T.serial(run.valid[p]):
                        for j in T.unroll(width):
                            prefetch(P, run, p, 1, h, t * head_dim + column + j * step)
                            for g in T.unroll(together):
                                for lane in T.vectorized(step):
                                    acc[g, j, lane] = acc[g, j, lane] + scores[
                                        first + g, p * PAGE_SIZE + t
                                    ] * T.Cast(
                                        "float32",
                                        P[run.page[p], 1, h, t * head_dim + column + j * step + lane],
                                    )
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            state.output[query + g, column + j * step + lane] = acc[g, j, lane]

    return add_values


def _finish_macro(heads: Heads) -> Any:
    """The macro `finish(out, lse, state, row, dtype)`: write the output, divided by its weight, and the log2
    of that weight.
    """
    step = lanes(heads.dim)

    @T.macro
    def finish(out, lse, state, row, dtype):
        for g in T.serial(heads.num_q):
            with T.sblock("finish"):
                T.reads()
                T.writes()
                total = local((1,))
                inverse = local((1,))
                total[0] = horizontal_sum(state.weight[g, vector(0, PAGE_SIZE)], PAGE_SIZE)
                inverse[0] = T.float32(1) / total[0]
                for i in T.serial(heads.dim // step):
                    for lane in T.vectorized(step):
                        out[row, g, i * step + lane] = T.Cast(
                            dtype, state.output[g, i * step + lane] * inverse[0]
                        )
                lse[row, g] = T.log2(total[0]) + state.peak[g]

    return finish
