"""The queries of a sequence's new tokens over its pages, a run of pages at a time.

The lanes of a vector are the positions of a page. This is online softmax (Milakov and Gimelshein, 2018) in
base 2, and the output is divided by the weight of its keys only at the end. The up to four pages of a run are
scored together, so that enough independent sums hide the latency of a multiplication. Pages may lie anywhere
in memory, so the next KV head of a run is fetched while one is being computed. All rows of a sequence take
their turn at a KV head of a run, which only the first of them reads from memory.
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


class RowStates(NamedTuple):
    """Buffers for the new rows of a sequence: what is carried from run to run, for each query head."""

    queries: Any  # (rows, hq, d), scaled
    output: Any  # (rows, hq, dv), not divided by `weight`
    peak: Any  # (rows, hq) the greatest score so far
    weight: Any  # (rows, hq, 16) the sum of 2^(score - peak) so far, over all lanes


class RowPages(NamedTuple):
    """Local int32 buffers: the nth row of a sequence attends to its pages first[n] to before end[n], if the
    one is less than the other. The longest row has longest[0] pages.
    """

    first: Any  # (rows,)
    end: Any  # (rows,)
    longest: Any  # (1,)


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
    """Local buffers with one element for each row and page of the run."""

    page: Any
    early: Any  # how many of its positions come before the row's window, in a kernel with a window
    valid: Any  # how many of its positions hold keys that the row may see
    ahead: Any  # the page at the same place of the next run
    is_windowed: bool

    def sees(self, n: Any, p: Any, t: Any) -> Any:
        """Whether the nth row sees the key at position t of page p."""
        if not self.is_windowed:
            return t < self.valid[n, p]
        return tirx.And(t < self.valid[n, p], t >= self.early[n, p])


class PageRuns:
    """The macros for the query heads of a sequence's last tokens, up to `most_rows`: `begin` for each, then
    `attend_anchors` if there are any, `attend` for each run of `pages_per_run` pages, and `finish` for each.
    Registers hold `sums` vectors of sums.
    """

    def __init__(self, heads: Heads, scores: Scores, sums: int, visible: Visible, most_rows: int) -> None:
        together = greatest_divisor(heads.group, sums // 2)
        self.heads, self.pages_per_run = heads, max(1, min(4, sums // together))
        self.most_rows = most_rows
        width = greatest_divisor(heads.value_dim // lanes(heads.value_dim), sums // together)
        registers = _Registers(heads, together, self.pages_per_run, width, sums)
        self.begin, self.finish = _begin_macro(heads, scores), _finish_macro(heads)
        self.attend = _attend_macro(registers, scores, most_rows)
        self.attend_anchors = _attend_anchors_macro(self, scores, visible) if visible.anchors else None


def buffer_of_rows(most_rows: int, *shape: int) -> Any:
    """A float32 buffer of a task with one part for each row. That of a single row is on the stack."""
    if most_rows == 1:
        return local((1, *shape))
    return T.sblock_alloc_buffer((most_rows, *shape), "float32")


def _attend_macro(registers: _Registers, scores_of: Scores, most_rows: int) -> Any:
    """The macro `attend(P, table, rows, state, pages, b, number, last_listed)`: for each row of sequence b,
    the run of that number of the row's pages, if there is one.
    """
    num_kv_heads, group, count = registers.heads.num_kv, registers.heads.group, registers.pages
    score, soften = _score_macro(registers, scores_of), _soften_macro(registers)
    cap, add_values = _cap_macro(registers, scores_of), _add_values_macro(registers)
    is_capped = scores_of.soft_cap is not None

    @T.macro
    def find_run(table, run, b, n, first, end, last_listed):
        for p in T.unroll(count):
            run.page[n, p] = T.Cast("int64", table.page(b, T.min(first + p, end - 1)))
            run.early[n, p] = table.first_key(b) - (first + p) * PAGE_SIZE
            run.valid[n, p] = T.if_then_else(
                first + p < end, T.min(PAGE_SIZE, table.num_keys(b) - (first + p) * PAGE_SIZE), 0
            )
            run.ahead[n, p] = T.Cast(
                "int64", table.listed[T.min(table.first[b] + first + count + p, last_listed)]
            )

    @T.macro
    def attend_head(P, state, scores, run, n, h):
        score(P, state, scores, run, n, h)
        if is_capped:
            cap(scores, run, n)
        soften(state, scores, n, h)
        add_values(P, state, scores, run, n, h)

    @T.macro
    def attend(P, table, rows, state, pages, b, number, last_listed):
        with T.sblock("run"):
            T.reads()
            T.writes()
            page = local((most_rows, count), "int64")
            early = local((most_rows, count), "int32")
            valid = local((most_rows, count), "int32")
            ahead = local((most_rows, count), "int64")
            scores = local((group, count * PAGE_SIZE))
            run = T.meta_var(_Run(page, early, valid, ahead, table.is_windowed))
            for n in T.serial(rows.num_of(b)):
                first = T.meta_var(pages.first[n] + number * count)
                if first < pages.end[n]:
                    find_run(table.of_row(rows.num_later(b, n)), run, b, n, first, pages.end[n], last_listed)
            for h in T.serial(num_kv_heads):
                for n in T.serial(rows.num_of(b)):
                    if pages.first[n] + number * count < pages.end[n]:
                        attend_head(P, state, scores, run, n, h)

    return attend


def _attend_anchors_macro(runs: PageRuns, scores: Scores, visible: Visible) -> Any:
    """The macro `attend_anchors(Q, P, table, rows, state, pages, b, last_listed)`: the pages of sequence b's
    anchors, for the second copy of the queries of those rows that begin with their first pages.
    """
    heads, most_rows, count, attend = runs.heads, runs.most_rows, runs.pages_per_run, runs.attend
    num_pages = -(-visible.anchors // PAGE_SIZE)
    factor = scores.query_factor

    @T.macro
    def copy_row(Q, queries, row, n):
        for g in T.serial(heads.num_q):
            for i in T.serial(heads.dim):
                queries[n, g, i] = T.Cast("float32", Q[row, heads.num_q + g, i]) * T.float32(factor)

    @T.macro
    def attend_anchors(Q, P, table, rows, state, pages, b, last_listed):
        with T.sblock("anchors"):
            T.reads()
            T.writes()
            queries = buffer_of_rows(most_rows, heads.num_q, heads.dim)
            first = local((most_rows,), "int32")
            end = local((most_rows,), "int32")
            copied = T.meta_var(state._replace(queries=queries))
            anchors = T.meta_var(table._replace(only_anchors=True))
            for n in T.serial(rows.num_of(b)):
                row_table = T.meta_var(table.of_row(rows.num_later(b, n)))
                first[n] = 0
                end[n] = 0
                if T.And(pages.first[n] < pages.end[n], pages.first[n] == row_table.first_page(b)):
                    end[n] = T.min(num_pages, row_table.num_pages(b))
                    copy_row(Q, queries, rows.row(b, n), n)
            for run in T.serial((num_pages + count - 1) // count):
                attend(P, anchors, rows, copied, pages._replace(first=first, end=end), b, run, last_listed)

    return attend_anchors


def _prefetch_macro(num_kv_heads: int) -> Any:
    """The macro `prefetch(P, run, n, p, part, h, offset)`: fetch a line of the KV head after h of page p of
    the nth row's run; after the last head, of the first head of the page ahead.
    """

    @T.macro
    def prefetch(P, run, n, p, part, h, offset):
        T.evaluate(
            fetch_line(
                P[
                    T.Select(h + 1 < num_kv_heads, run.page[n, p], run.ahead[n, p]),
                    part,
                    T.Select(h + 1 < num_kv_heads, h + 1, 0),
                    offset,
                ]
            )
        )

    return prefetch


def _begin_macro(heads: Heads, scores: Scores) -> Any:
    """The macro `begin(Q, sinks, state, n, row, has_sinks)`: the state of the nth row, which is that row of
    Q, before any key. The sinks count only if `has_sinks`.
    """
    factor = scores.query_factor

    @T.macro
    def begin(Q, sinks, state, n, row, has_sinks):
        for g in T.serial(heads.num_q):
            state.peak[n, g] = T.if_then_else(has_sinks, sink_score(sinks, g), T.float32(MASKED))
            for t in T.vectorized(PAGE_SIZE):
                state.weight[n, g, t] = T.float32(1.0 / PAGE_SIZE)
            for i in T.serial(heads.dim):
                state.queries[n, g, i] = T.Cast("float32", Q[row, g, i]) * T.float32(factor)
            for i in T.serial(heads.value_dim):
                state.output[n, g, i] = T.float32(0)

    return begin


def _score_macro(registers: _Registers, scores_of: Scores) -> Any:
    """The macro `score(P, state, scores, run, n, h)`: scores of all keys of the nth row's run. Keys that do
    not exist or are not seen get MASKED, unless `cap` is left to do that.
    """
    heads, together, count = registers.heads, registers.together, registers.pages
    group, is_capped = heads.group, scores_of.soft_cap is not None
    if heads.latent is not None:
        return row_scores_macro(heads, count, registers.sums, is_masked=not is_capped)
    prefetch = _prefetch_macro(heads.num_kv)

    def masked(run: _Run, n: Any, p: Any, t: Any, product: Any) -> Any:
        return product if is_capped else tirx.Select(run.sees(n, p, t), product, T.float32(MASKED))

    @T.macro
    def add_column(P, state, acc, run, n, h, first, i):
        for p in T.unroll(count):
            prefetch(P, run, n, p, 0, h, i * PAGE_SIZE)
            for g in T.unroll(together):
                for t in T.vectorized(PAGE_SIZE):
                    acc[g, p, t] = acc[g, p, t] + state.queries[n, h * group + first + g, i] * T.Cast(
                        "float32", P[run.page[n, p], 0, h, i * PAGE_SIZE + t]
                    )

    @T.macro
    def score(P, state, scores, run, n, h):
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
                    add_column(P, state, acc, run, n, h, part * together, i)
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            scores[part * together + g, p * PAGE_SIZE + t] = masked(
                                run, n, p, t, acc[g, p, t]
                            )

    return score


def _cap_macro(registers: _Registers, scores_of: Scores) -> Any:
    """The macro `cap(scores, run, n)`: products become capped scores, and those of keys that the nth row does
    not see MASKED. It is a loop of its own, because code for many tangents at once would take long to
    compile.
    """
    group, count = registers.heads.group, registers.pages

    @T.macro
    def cap(scores, run, n):
        for g in T.serial(group):
            for p in T.serial(count):
                for t in T.vectorized(PAGE_SIZE):
                    scores[g, p * PAGE_SIZE + t] = T.Select(
                        run.sees(n, p, t), scores_of.capped(scores[g, p * PAGE_SIZE + t]), T.float32(MASKED)
                    )

    return cap


def _soften_macro(registers: _Registers) -> Any:
    """The macro `soften(state, scores, n, h)`: scores become weights relative to the greatest score so far,
    and the output and weight of earlier runs are scaled to it.
    """
    heads, count, step = registers.heads, registers.pages, registers.step
    group, value_dim = heads.group, heads.value_dim
    each_head = T.unroll if group <= _MOST_UNROLLED else T.serial

    @T.macro
    def rescale(state, n, head, peak):
        with T.sblock("rescale"):
            T.reads()
            T.writes()
            factor = local((1,))
            factor[0] = exp2(state.peak[n, head] - peak)
            state.peak[n, head] = peak
            for t in T.vectorized(PAGE_SIZE):
                state.weight[n, head, t] = state.weight[n, head, t] * factor[0]
            for i in T.serial(value_dim // step):
                for lane in T.vectorized(step):
                    state.output[n, head, i * step + lane] = (
                        state.output[n, head, i * step + lane] * factor[0]
                    )

    @T.macro
    def soften(state, scores, n, h):
        for g in each_head(group):
            with T.sblock("softmax"):
                T.reads()
                T.writes()
                top = local((PAGE_SIZE,))
                peak = local((1,))
                head = T.meta_var(h * group + g)
                for t in T.vectorized(PAGE_SIZE):
                    top[t] = scores[g, t]
                for p in T.unroll(count - 1):
                    for t in T.vectorized(PAGE_SIZE):
                        top[t] = T.max(top[t], scores[g, (p + 1) * PAGE_SIZE + t])
                peak[0] = horizontal_max(top[vector(0, PAGE_SIZE)], PAGE_SIZE)
                if peak[0] > state.peak[n, head]:
                    rescale(state, n, head, peak[0])
                for p in T.unroll(count):
                    for t in T.vectorized(PAGE_SIZE):
                        scores[g, p * PAGE_SIZE + t] = exp2(
                            scores[g, p * PAGE_SIZE + t] - state.peak[n, head]
                        )
                    for t in T.vectorized(PAGE_SIZE):
                        state.weight[n, head, t] = state.weight[n, head, t] + scores[g, p * PAGE_SIZE + t]

    return soften


def _add_values_macro(registers: _Registers) -> Any:
    """The macro `add_values(P, state, scores, run, n, h)`: add the values of the keys of the nth row's run
    that exist, by their weights. Positions that hold no key may hold anything.
    """
    heads, together, count, width = registers.heads, registers.together, registers.pages, registers.width
    group, value_dim, step = heads.group, heads.value_dim, registers.step
    value_part = heads.value_part
    prefetch = _prefetch_macro(heads.num_kv)

    @T.macro
    def add_values(P, state, scores, run, n, h):
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
                            acc[g, j, lane] = state.output[n, query + g, column + j * step + lane]
                for p in T.serial(count):
                    for t in T.serial(run.valid[n, p]):
                        for j in T.unroll(width):
                            prefetch(P, run, n, p, value_part, h, t * heads.dim + stored + j * step)
                            for g in T.unroll(together):
                                for lane in T.vectorized(step):
                                    acc[g, j, lane] = acc[g, j, lane] + scores[
                                        first + g, p * PAGE_SIZE + t
                                    ] * T.Cast(
                                        "float32",
                                        P[
                                            run.page[n, p],
                                            value_part,
                                            h,
                                            t * heads.dim + stored + j * step + lane,
                                        ],
                                    )
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            state.output[n, query + g, column + j * step + lane] = acc[g, j, lane]

    return add_values


def _finish_macro(heads: Heads) -> Any:
    """The macro `finish(out, state, n, row, dtype)`: write the output of the nth row, divided by its weight,
    to that row of the result.
    """
    value_dim, step = heads.value_dim, lanes(heads.value_dim)

    @T.macro
    def finish(out, state, n, row, dtype):
        for g in T.serial(heads.num_q):
            with T.sblock("finish"):
                T.reads()
                T.writes()
                total = local((1,))
                inverse = local((1,))
                total[0] = horizontal_sum(state.weight[n, g, vector(0, PAGE_SIZE)], PAGE_SIZE)
                inverse[0] = T.float32(1) / total[0]
                for i in T.serial(value_dim // step):
                    for lane in T.vectorized(step):
                        out[row, g, i * step + lane] = T.Cast(
                            dtype, state.output[n, g, i * step + lane] * inverse[0]
                        )

    return finish
