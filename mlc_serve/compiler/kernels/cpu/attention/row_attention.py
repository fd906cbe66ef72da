"""Attention of the few new rows of each sequence over the pages of that sequence: of one row in a decode, and
of several where drafts are checked.

A page is read once for all rows of its sequence. A batch of any lengths is balanced, and a single long
sequence is spread over all threads, because threads take shares of the pages. A share writes the results of
the rows whose pages it holds all of. For the rows whose pages its two ends cut through, it keeps partial
results, which are joined when all shares are done.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.few_rows import FewRows
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.page_run import PageRuns, RowPages, RowStates, buffer_of_rows
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.shares import MAX_SHARES, Shares, cut_macro
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING

_JOINING = 4  # joining a value of a partial result costs as much as rotating so many


class RowTensors(NamedTuple):
    """The kernel's tensors."""

    Q: Any
    P: Any
    sinks: Any
    O: Any


class _Partial(NamedTuple):
    """Results over parts of what a row sees. Share s keeps the result of the nth row of the sequence at its
    beginning at (2 s, n), and of that at its end at (2 s + 1, n).
    """

    output: Any  # (2 shares, rows, hq, dv), not divided by their weight
    peak: Any  # (2 shares, rows, hq)
    weight: Any  # (2 shares, rows, hq, 16)


class _Batch(NamedTuple):
    """What the macros here work on."""

    tensors: RowTensors
    table: Any
    rows: FewRows
    shares: Shares
    num_sequences: Any

    def table_of(self, b: Any, n: Any) -> Any:
        """The page table for sequence b's nth row."""
        return self.table.of_row(self.rows.num_later(b, n))

    @property
    def last_listed(self) -> Any:
        """The place of the last page that the table lists."""
        return self.table.first[self.num_sequences] - 1


def _find_pages_macro(most_rows: int) -> Any:
    """The macro `find_pages(batch, pages, bounds, split, b)`: which pages of sequence b a task attends to.
    The nth rows have the pages bounds[n, 0] to before bounds[n, 1] of all that nth rows see.
    """
    may_split = most_rows > 1

    @T.macro
    def find_pages(batch, pages, bounds, split, b):
        pages.longest[0] = 0
        for n in T.serial(batch.rows.num_of(b)):
            seen = T.meta_var(batch.table_of(b, n).first_page(b))
            before = T.meta_var(batch.shares.first[n, b])
            pages.first[n] = seen + T.max(bounds[n, 0] - before, 0)
            pages.end[n] = T.min(seen + bounds[n, 1] - before, batch.table_of(b, n).num_pages(b))
            if may_split:  # noqa: SIM102  the next condition is the kernel's
                if n % batch.shares.num_splits[0] != split:
                    pages.end[n] = 0
            pages.longest[0] = T.max(pages.longest[0], pages.end[n] - pages.first[n])

    return find_pages


def _begin_rows_macro(runs: PageRuns) -> Any:
    """The macro `begin_rows(batch, state, pages, b)`: begin the rows of sequence b that have pages."""

    @T.macro
    def begin_rows(batch, state, pages, b):
        for n in T.serial(batch.rows.num_of(b)):
            if pages.first[n] < pages.end[n]:
                is_first = T.meta_var(pages.first[n] == batch.table_of(b, n).first_page(b))
                runs.begin(batch.tensors.Q, batch.tensors.sinks, state, n, batch.rows.row(b, n), is_first)

    return begin_rows


def _end_rows_macro(runs: PageRuns, dtype: str) -> Any:
    """The macro `end_rows(batch, state, partial, pages, share, b)`: write the results of the rows of sequence
    b that have pages, or keep them as partial ones.
    """
    num_heads, value_dim = runs.heads.num_q, runs.heads.value_dim

    @T.macro
    def keep(state, partial, index, n):
        for g in T.serial(num_heads):
            partial.peak[index, n, g] = state.peak[n, g]
            for t in T.vectorized(PAGE_SIZE):
                partial.weight[index, n, g, t] = state.weight[n, g, t]
            for i in T.serial(value_dim):
                partial.output[index, n, g, i] = state.output[n, g, i]

    @T.macro
    def end_rows(batch, state, partial, pages, share, b):
        for n in T.serial(batch.rows.num_of(b)):
            if pages.first[n] < pages.end[n]:
                if pages.first[n] > batch.table_of(b, n).first_page(b):
                    keep(state, partial, share * 2, n)
                elif pages.end[n] < batch.table_of(b, n).num_pages(b):
                    keep(state, partial, share * 2 + 1, n)
                else:
                    runs.finish(batch.tensors.O, state, n, batch.rows.row(b, n), dtype)

    return end_rows


def _attend_part_macro(runs: PageRuns, dtype: str) -> Any:
    """The macro `attend_part(batch, partial, pages, share, b)`: all rows of sequence b over the pages of it
    that lie in a share.
    """
    heads, most_rows, count = runs.heads, runs.most_rows, runs.pages_per_run
    num_heads, value_dim = heads.num_q, heads.value_dim
    begin_rows, end_rows = _begin_rows_macro(runs), _end_rows_macro(runs, dtype)

    @T.macro
    def attend_part(batch, partial, pages, share, b):
        with T.sblock("part"):
            T.reads()
            T.writes()
            queries = buffer_of_rows(most_rows, num_heads, heads.dim)
            output = buffer_of_rows(most_rows, num_heads, value_dim)
            peak = buffer_of_rows(most_rows, num_heads)
            weight = buffer_of_rows(most_rows, num_heads, PAGE_SIZE)
            state = T.meta_var(RowStates(queries, output, peak, weight))
            begin_rows(batch, state, pages, b)
            if runs.attend_anchors is not None:
                runs.attend_anchors(
                    batch.tensors.Q,
                    batch.tensors.P,
                    batch.table,
                    batch.rows,
                    state,
                    pages,
                    b,
                    batch.last_listed,
                )
            for run in T.serial((pages.longest[0] + count - 1) // count):
                runs.attend(batch.tensors.P, batch.table, batch.rows, state, pages, b, run, batch.last_listed)
            end_rows(batch, state, partial, pages, share, b)

    return attend_part


def _run_task_macro(runs: PageRuns, dtype: str) -> Any:
    """The macro `run_task(batch, partial, task)`: all that lies in one share."""
    most_rows = runs.most_rows
    find_pages, attend_part = _find_pages_macro(most_rows), _attend_part_macro(runs, dtype)

    @T.macro
    def run_task(batch, partial, task):
        with T.sblock("task"):
            T.reads()
            T.writes()
            bounds = local((most_rows, 2), "int32")
            first = local((most_rows,), "int32")
            end = local((most_rows,), "int32")
            longest = local((1,), "int32")
            pages = T.meta_var(RowPages(first, end, longest))
            share = T.meta_var(task // batch.shares.num_splits[0])
            for n in T.serial(batch.shares.num_rows[0]):
                for side in T.unroll(2):
                    bounds[n, side] = batch.shares.bound(n, share + side, batch.num_sequences)
            for b in T.serial(batch.num_sequences):
                find_pages(batch, pages, bounds, task % batch.shares.num_splits[0], b)
                if longest[0] > 0:
                    attend_part(batch, partial, pages, share, b)

    return run_task


def _join_macro(num_heads: int, value_dim: int, dtype: str) -> Any:
    """The macro `join(batch, partial, b, n)`: write the result of sequence b's nth row if it sees pages of
    several shares.
    """
    step = lanes(value_dim)

    @T.macro
    def join_parts(out, partial, row, n, query, first, last):
        with T.sblock("join"):
            T.reads()
            T.writes()
            peak = local((1,))
            total = local((1,))
            factor = local((1,))
            output = local((value_dim,))
            peak[0] = partial.peak[first * 2 + 1, n, query]
            for share in T.serial(last - first):
                peak[0] = T.max(peak[0], partial.peak[(first + 1 + share) * 2, n, query])
            total[0] = T.float32(0)
            for i in T.serial(value_dim):
                output[i] = T.float32(0)
            for share in T.serial(last - first + 1):
                index = T.meta_var((first + share) * 2 + T.if_then_else(share == 0, 1, 0))
                factor[0] = exp2(partial.peak[index, n, query] - peak[0])
                for t in T.serial(PAGE_SIZE):
                    total[0] = total[0] + partial.weight[index, n, query, t] * factor[0]
                for i in T.serial(value_dim // step):
                    for lane in T.vectorized(step):
                        output[i * step + lane] = (
                            output[i * step + lane]
                            + partial.output[index, n, query, i * step + lane] * factor[0]
                        )
            for i in T.serial(value_dim // step):
                for lane in T.vectorized(step):
                    out[row, query, i * step + lane] = T.Cast(dtype, output[i * step + lane] / total[0])

    @T.macro
    def join(batch, partial, b, n):
        bounds = T.meta_var((batch.shares.first[n, b], batch.shares.first[n, b + 1] - 1))
        first = T.meta_var(batch.shares.share_of(n, bounds[0], batch.num_sequences))
        last = T.meta_var(batch.shares.share_of(n, bounds[1], batch.num_sequences))
        if first < last:
            for query in T.serial(num_heads):
                join_parts(batch.tensors.O, partial, batch.rows.row(b, n), n, query, first, last)

    return join


def _join_all_macro(heads: Heads, dtype: str, most_rows: int) -> Any:
    """The macro `join_all(batch, partial)`: the results of all rows that see pages of several shares."""
    join = _join_macro(heads.num_q, heads.value_dim, dtype)
    row_cost = _JOINING * heads.num_q * heads.value_dim

    @T.macro
    def join_in_turn(batch, partial):
        for b in T.serial(batch.num_sequences):
            for n in T.serial(batch.rows.num_of(b)):
                join(batch, partial, b, n)

    @T.macro
    def join_at_once(batch, partial, num_rows):
        for task in T.parallel(batch.num_sequences * num_rows):
            if task % num_rows < batch.rows.num_of(task // num_rows):
                join(batch, partial, task // num_rows, task % num_rows)

    @T.macro
    def join_all(batch, partial):
        cost = T.meta_var(batch.shares.num_rows[0] * batch.shares.num_shares[0] * row_cost)
        if most_rows == 1 or cost <= VALUES_PER_WAKING:
            join_in_turn(batch, partial)
        else:
            join_at_once(batch, partial, batch.shares.num_rows[0])

    return join_all


def row_attention_macro(
    heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit, most_rows: int
) -> Any:
    """The macro `attend_rows(tensors, table, rows, num_sequences)` for `RowTensors` and a batch of `FewRows`
    of up to `most_rows`.
    """
    run_task = _run_task_macro(PageRuns(heads, scores, unit.sums, visible, most_rows), dtype)
    cut, join_all = cut_macro(heads.num_kv * heads.dim), _join_all_macro(heads, dtype, most_rows)
    num_heads, value_dim = heads.num_q, heads.value_dim

    @T.macro
    def run_tasks(batch, most_kept):
        with T.sblock("tasks"):
            T.reads()
            T.writes()
            output = T.sblock_alloc_buffer((2 * MAX_SHARES, most_kept, num_heads, value_dim), "float32")
            peak = T.sblock_alloc_buffer((2 * MAX_SHARES, most_kept, num_heads), "float32")
            weight = T.sblock_alloc_buffer((2 * MAX_SHARES, most_kept, num_heads, PAGE_SIZE), "float32")
            partial = T.meta_var(_Partial(output, peak, weight))
            if batch.shares.num_tasks == 1:
                run_task(batch, partial, 0)
            else:
                for task in T.parallel(batch.shares.num_tasks):
                    run_task(batch, partial, task)
            join_all(batch, partial)

    @T.macro
    def attend_rows(tensors, table, rows, num_sequences):
        with T.sblock("few_rows"):
            T.reads()
            T.writes()
            first = T.sblock_alloc_buffer((most_rows, table.first.shape[0]), "int32")
            count = local((most_rows,), "int32")
            num_rows = local((1,), "int32")
            num_shares = local((1,), "int32")
            num_splits = local((1,), "int32")
            shares = T.meta_var(Shares(first, count, num_rows, num_shares, num_splits))
            cut(shares, table, rows, num_sequences)
            if num_rows[0] > 0:
                run_tasks(
                    _Batch(tensors, table, rows, shares, num_sequences),
                    T.min(tensors.Q.shape[0], most_rows) if most_rows > 1 else 1,
                )

    return attend_rows
