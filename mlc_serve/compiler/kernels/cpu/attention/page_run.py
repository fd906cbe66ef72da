"""The queries of one token over the pages of its sequence, a run of pages at a time.

The lanes of a vector are the positions of a page. This is online softmax (Milakov and Gimelshein, 2018) in
base 2, and the output is divided by the weight of its keys only at the end. The up to four pages of a run are
scored together, so that enough independent sums hide the latency of a multiplication. Pages may lie anywhere
in memory, so the next KV head of a run is fetched while one is being computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.row_scores import row_scores_macro
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED, Scores, sink_score
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.divisor import greatest_divisor
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.horizontal import horizontal_max, horizontal_sum
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.prefetch import fetch_line
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector

_MOST_UNROLLED = 8  # query heads of a KV head


class TokenState(NamedTuple):
    """Local buffers for one token: what is carried from run to run, for each query head."""

    queries: Any  # (hq, d), scaled
    output: Any  # (hq, dv), not divided by `weight`
    peak: Any  # (hq,) the greatest score so far
    weight: Any  # (hq, 16) the sum of 2^(score - peak) so far, over all lanes


class _Registers(NamedTuple):
    """How the sums of a KV head's query heads are kept in registers: those of `together` query heads at a
    time, over all `pages` of a run for scores, and over `width` vectors of a value for output. There are
    `sums` registers for sums.
    """

    heads: Heads
    together: int
    pages: int
    width: int
    sums: int

    @property
    def step(self) -> int:
        """Values in a vector of a value."""
        return lanes(self.heads.value_dim)


class _Run(NamedTuple):
    """Local buffers with one element for each page of the run."""

    page: Any
    early: Any  # how many of its positions come before the window, in a kernel with a window
    valid: Any  # how many of its positions hold keys
    ahead: Any  # the page at the same place of the next run
    is_windowed: bool

    def sees(self, p: Any, t: Any) -> Any:
        """Whether position t of page p holds a key that is seen."""
        if not self.is_windowed:
            return t < self.valid[p]
        return tirx.And(t < self.valid[p], t >= self.early[p])


class PageRuns:
    """The macros for the query heads of a token, the last one of its sequence: `begin`, `attend_anchors` if
    there are any, `attend` for each run of `pages_per_run` pages, and `finish`. Registers hold `sums` vectors
    of sums.
    """

    def __init__(self, heads: Heads, scores: Scores, sums: int, visible: Visible) -> None:
        together = greatest_divisor(heads.group, sums // 2)
        self.heads, self.pages_per_run = heads, max(1, min(4, sums // together))
        width = greatest_divisor(heads.value_dim // lanes(heads.value_dim), sums // together)
        self.begin, self.finish = _begin_macro(heads, scores), _finish_macro(heads)
        self.attend = _attend_macro(_Registers(heads, together, self.pages_per_run, width, sums), scores)
        self.attend_anchors = _attend_anchors_macro(self, scores, visible) if visible.anchors else None


def _attend_macro(registers: _Registers, scores_of: Scores) -> Any:
    """The macro `attend(P, table, state, b, first, end, last_listed)`: the run of sequence b's pages from
    `first`, as far as they come before `end`.
    """
    num_kv_heads, group, count = registers.heads.num_kv, registers.heads.group, registers.pages
    score, soften = _score_macro(registers, scores_of), _soften_macro(registers)
    cap, add_values = _cap_macro(registers, scores_of), _add_values_macro(registers)
    is_capped = scores_of.soft_cap is not None

    @T.macro
    def attend(P, table, state, b, first, end, last_listed):
        with T.sblock("run"):
            T.reads()
            T.writes()
            page = local((count,), "int64")
            early = local((count,), "int32")
            valid = local((count,), "int32")
            ahead = local((count,), "int64")
            scores = local((group, count * PAGE_SIZE))
            run = T.meta_var(_Run(page, early, valid, ahead, table.is_windowed))
            for p in T.unroll(count):
                page[p] = T.Cast("int64", table.page(b, T.min(first + p, end - 1)))
                early[p] = table.first_key(b) - (first + p) * PAGE_SIZE
                valid[p] = T.if_then_else(
                    first + p < end, T.min(PAGE_SIZE, table.num_keys(b) - (first + p) * PAGE_SIZE), 0
                )
                ahead[p] = T.Cast(
                    "int64", table.listed[T.min(table.first[b] + first + count + p, last_listed)]
                )
            for h in T.serial(num_kv_heads):
                score(P, state, scores, run, h)
                if is_capped:
                    cap(scores, run)
                soften(state, scores, h)
                add_values(P, state, scores, run, h)

    return attend


def _attend_anchors_macro(runs: PageRuns, scores: Scores, visible: Visible) -> Any:
    """The macro `attend_anchors(Q, P, table, state, b, row, last_listed)`: the pages of sequence b's anchors,
    for the second copy of a row's queries.
    """
    heads, count, attend = runs.heads, runs.pages_per_run, runs.attend
    num_pages = -(-visible.anchors // PAGE_SIZE)
    factor = scores.query_factor

    @T.macro
    def attend_anchors(Q, P, table, state, b, row, last_listed):
        with T.sblock("anchors"):
            T.reads()
            T.writes()
            queries = local((heads.num_q, heads.dim))
            copied = T.meta_var(state._replace(queries=queries))
            anchors = T.meta_var(table._replace(only_anchors=True))
            for g in T.serial(heads.num_q):
                for i in T.serial(heads.dim):
                    queries[g, i] = T.Cast("float32", Q[row, heads.num_q + g, i]) * T.float32(factor)
            for run in T.serial((num_pages + count - 1) // count):
                end = T.meta_var(T.min(num_pages, table.num_pages(b)))
                attend(P, anchors, copied, b, run * count, end, last_listed)

    return attend_anchors


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


def _begin_macro(heads: Heads, scores: Scores) -> Any:
    """The macro `begin(Q, sinks, state, row, has_sinks)`: the state before any key, for the queries of a row.
    The sinks count only if `has_sinks`.
    """
    factor = scores.query_factor

    @T.macro
    def begin(Q, sinks, state, row, has_sinks):
        for g in T.serial(heads.num_q):
            state.peak[g] = T.if_then_else(has_sinks, sink_score(sinks, g), T.float32(MASKED))
            for t in T.vectorized(PAGE_SIZE):
                state.weight[g, t] = T.float32(1.0 / PAGE_SIZE)
            for i in T.serial(heads.dim):
                state.queries[g, i] = T.Cast("float32", Q[row, g, i]) * T.float32(factor)
            for i in T.serial(heads.value_dim):
                state.output[g, i] = T.float32(0)

    return begin


def _score_macro(registers: _Registers, scores_of: Scores) -> Any:
    """The macro `score(P, state, scores, run, h)`: scores of all keys of a run. Keys that do not exist or are
    not seen get MASKED, unless `cap` is left to do that.
    """
    heads, together, count = registers.heads, registers.together, registers.pages
    group, is_capped = heads.group, scores_of.soft_cap is not None
    if heads.latent is not None:
        return row_scores_macro(heads, count, registers.sums, is_masked=not is_capped)
    prefetch = _prefetch_macro(heads.num_kv)

    def masked(run: _Run, p: Any, t: Any, product: Any) -> Any:
        return product if is_capped else tirx.Select(run.sees(p, t), product, T.float32(MASKED))

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
    def score(P, state, scores, run, h):
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
                    add_column(P, state, acc, run, h, part * together, i)
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            scores[part * together + g, p * PAGE_SIZE + t] = masked(run, p, t, acc[g, p, t])

    return score


def _cap_macro(registers: _Registers, scores_of: Scores) -> Any:
    """The macro `cap(scores, run)`: products become capped scores, and those of keys that are not seen
    MASKED. It is a loop of its own, because code for many tangents at once would take long to compile.
    """
    group, count = registers.heads.group, registers.pages

    @T.macro
    def cap(scores, run):
        for g in T.serial(group):
            for p in T.serial(count):
                for t in T.vectorized(PAGE_SIZE):
                    scores[g, p * PAGE_SIZE + t] = T.Select(
                        run.sees(p, t), scores_of.capped(scores[g, p * PAGE_SIZE + t]), T.float32(MASKED)
                    )

    return cap


def _soften_macro(registers: _Registers) -> Any:
    """The macro `soften(state, scores, h)`: scores become weights relative to the greatest score so far, and
    the output and weight of earlier runs are scaled to it.
    """
    heads, count, step = registers.heads, registers.pages, registers.step
    group, value_dim = heads.group, heads.value_dim
    each_head = T.unroll if group <= _MOST_UNROLLED else T.serial

    @T.macro
    def soften(state, scores, h):
        for g in each_head(group):
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
                    for i in T.serial(value_dim // step):
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
    group, value_dim, step = heads.group, heads.value_dim, registers.step
    value_part = heads.value_part
    prefetch = _prefetch_macro(heads.num_kv)

    @T.macro
    def add_values(P, state, scores, run, h):
        for part, piece in T.grid(group // together, value_dim // step // width):
            with T.sblock("values"):
                T.reads()
                T.writes()
                acc = local((together, width, step))
                first = T.meta_var(part * together)
                query = T.meta_var(h * group + part * together)
                column = T.meta_var(piece * width * step)
                stored = T.meta_var(heads.first_value + piece * width * step)
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            acc[g, j, lane] = state.output[query + g, column + j * step + lane]
                for p in T.serial(count):
                    for t in T.serial(run.valid[p]):
                        for j in T.unroll(width):
                            prefetch(P, run, p, value_part, h, t * heads.dim + stored + j * step)
                            for g in T.unroll(together):
                                for lane in T.vectorized(step):
                                    acc[g, j, lane] = acc[g, j, lane] + scores[
                                        first + g, p * PAGE_SIZE + t
                                    ] * T.Cast(
                                        "float32",
                                        P[
                                            run.page[p],
                                            value_part,
                                            h,
                                            t * heads.dim + stored + j * step + lane,
                                        ],
                                    )
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            state.output[query + g, column + j * step + lane] = acc[g, j, lane]

    return add_values


def _finish_macro(heads: Heads) -> Any:
    """The macro `finish(out, state, row, dtype)`: write the output, divided by its weight."""
    value_dim, step = heads.value_dim, lanes(heads.value_dim)

    @T.macro
    def finish(out, state, row, dtype):
        for g in T.serial(heads.num_q):
            with T.sblock("finish"):
                T.reads()
                T.writes()
                total = local((1,))
                inverse = local((1,))
                total[0] = horizontal_sum(state.weight[g, vector(0, PAGE_SIZE)], PAGE_SIZE)
                inverse[0] = T.float32(1) / total[0]
                for i in T.serial(value_dim // step):
                    for lane in T.vectorized(step):
                        out[row, g, i * step + lane] = T.Cast(
                            dtype, state.output[g, i * step + lane] * inverse[0]
                        )

    return finish
