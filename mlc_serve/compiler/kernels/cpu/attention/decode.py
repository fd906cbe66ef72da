"""Attention of one new token of each sequence over the pages of that sequence.

The pages that the tokens see, one after another, are cut into equal shares, which threads take. So a batch of
any lengths is balanced, and a single long sequence is spread over all threads. A share writes the results of
the sequences that it holds whole. For the sequences that its two ends cut through, it keeps partial results,
which are joined when all shares are done.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads, by_head
from mlc_serve.compiler.kernels.cpu.attention.page_run import PageRuns, TokenState
from mlc_serve.compiler.kernels.cpu.attention.page_table import match_page_table
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, match_pages
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING

_MAX_SHARES = 64
_FIRST_SHARES = 4
_FIRST_SHARE_VALUES = VALUES_PER_WAKING // 8  # attending to a value of a key costs as much as rotating 8
_SHARE_VALUES = 1 << 16  # the fewest values of keys in a share, if there are more than the first shares


class _Shares(NamedTuple):
    """How the `work` pages that all sequences see are cut into `count` shares. Those of sequence b are
    numbers first[b] to before first[b + 1].
    """

    first: Any
    work: Any
    count: Any

    def bound(self, share: Any) -> Any:
        """The first page of a share."""
        return share * self.work // self.count

    def share_of(self, page: Any) -> Any:
        """The share that a page is in."""
        return ((page + 1) * self.count + self.work - 1) // self.work - 1


class _Partial(NamedTuple):
    """Results over parts of a sequence. Share n keeps the result of the sequence at its beginning at 2 n, and
    that of the sequence at its end at 2 n + 1.
    """

    output: Any  # (2 shares, hq, dv), not divided by their weight
    peak: Any  # (2 shares, hq)
    weight: Any  # (2 shares, hq, 16)


class _Tensors(NamedTuple):
    Q: Any
    P: Any
    sinks: Any
    O: Any


def _num_shares(work: Any, key_size: int) -> Any:
    """One, or a power of two from four on.

    With a power of two, all threads get equally many shares, because mostly the number of threads is even.
    Four is the least, because most processors have four cores. There are more shares only if there is more
    work, because the parts of a sequence must be joined.
    """
    page_values = PAGE_SIZE * key_size
    first, least = (max(1, values // page_values) for values in (_FIRST_SHARE_VALUES, _SHARE_VALUES))
    count: Any = tirx.Select(work >= _FIRST_SHARES * first, _FIRST_SHARES, tirx.const(1, "int32"))
    for exponent in range(_FIRST_SHARES.bit_length(), _MAX_SHARES.bit_length()):
        count = tirx.Select(work >= least << exponent, tirx.const(1 << exponent, "int32"), count)
    return count


def _run_share_macro(runs: PageRuns, dtype: str) -> Any:
    """The macro `run_share(tensors, table, partial, shares, share, batch)`: all that lies in one share."""
    num_heads, value_dim, count = runs.heads.num_q, runs.heads.value_dim, runs.pages_per_run

    @T.macro
    def keep(state, partial, index):
        for g in T.serial(num_heads):
            partial.peak[index, g] = state.peak[g]
            for t in T.vectorized(PAGE_SIZE):
                partial.weight[index, g, t] = state.weight[g, t]
            for i in T.serial(value_dim):
                partial.output[index, g, i] = state.output[g, i]

    @T.macro
    def attend_part(tensors, table, partial, shares, share, b, last_listed):
        with T.sblock("part"):
            T.reads()
            T.writes()
            queries = local((num_heads, runs.heads.dim))
            output = local((num_heads, value_dim))
            peak = local((num_heads,))
            weight = local((num_heads, PAGE_SIZE))
            state = T.meta_var(TokenState(queries, output, peak, weight))
            seen = T.meta_var(table.first_page(b))
            first = local((1,), "int32")
            end = local((1,), "int32")
            first[0] = seen + T.max(shares.bound(share) - shares.first[b], 0)
            end[0] = T.min(seen + shares.bound(share + 1) - shares.first[b], table.num_pages(b))
            if first[0] < end[0]:
                runs.begin(tensors.Q, tensors.sinks, state, b, first[0] == seen)
                if runs.attend_anchors is not None:  # noqa: SIM102  the next condition is the kernel's
                    if first[0] == seen:
                        runs.attend_anchors(tensors.Q, tensors.P, table, state, b, b, last_listed)
                for run in T.serial((end[0] - first[0] + count - 1) // count):
                    page = T.meta_var(first[0] + run * count)
                    runs.attend(tensors.P, table, state, b, page, end[0], last_listed)
                if first[0] > seen:
                    keep(state, partial, share * 2)
                elif end[0] < table.num_pages(b):
                    keep(state, partial, share * 2 + 1)
                else:
                    runs.finish(tensors.O, state, b, dtype)

    @T.macro
    def run_share(tensors, table, partial, shares, share, batch):
        for b in T.serial(batch):
            if T.And(shares.first[b] < shares.bound(share + 1), shares.first[b + 1] > shares.bound(share)):
                attend_part(tensors, table, partial, shares, share, b, table.first[batch] - 1)

    return run_share


def _join_macro(num_heads: int, value_dim: int, dtype: str) -> Any:
    """The macro `join(tensors, partial, shares, b)`: write the result of sequence b if it lies in several
    shares.
    """
    step = lanes(value_dim)

    @T.macro
    def join_parts(tensors, partial, row, query, first, last):
        with T.sblock("join"):
            T.reads()
            T.writes()
            peak = local((1,))
            total = local((1,))
            factor = local((1,))
            output = local((value_dim,))
            peak[0] = partial.peak[first * 2 + 1, query]
            for share in T.serial(last - first):
                peak[0] = T.max(peak[0], partial.peak[(first + 1 + share) * 2, query])
            total[0] = T.float32(0)
            for i in T.serial(value_dim):
                output[i] = T.float32(0)
            for share in T.serial(last - first + 1):
                index = T.meta_var((first + share) * 2 + T.if_then_else(share == 0, 1, 0))
                factor[0] = exp2(partial.peak[index, query] - peak[0])
                for t in T.serial(PAGE_SIZE):
                    total[0] = total[0] + partial.weight[index, query, t] * factor[0]
                for i in T.serial(value_dim // step):
                    for lane in T.vectorized(step):
                        output[i * step + lane] = (
                            output[i * step + lane]
                            + partial.output[index, query, i * step + lane] * factor[0]
                        )
            for i in T.serial(value_dim // step):
                for lane in T.vectorized(step):
                    tensors.O[row, query, i * step + lane] = T.Cast(dtype, output[i * step + lane] / total[0])

    @T.macro
    def join(tensors, partial, shares, b):
        first = T.meta_var(shares.share_of(shares.first[b]))
        last = T.meta_var(shares.share_of(shares.first[b + 1] - 1))
        if first < last:
            for query in T.serial(num_heads):
                join_parts(tensors, partial, b, query, first, last)

    return join


def _all_shares_macro(heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit) -> Any:
    """The macro `all_shares(tensors, table, batch)` for the whole batch."""
    num_heads, value_dim = heads.num_q, heads.value_dim
    run_share = _run_share_macro(PageRuns(heads, scores, unit.sums, visible), dtype)
    join = _join_macro(num_heads, value_dim, dtype)

    @T.macro
    def all_shares(tensors, table, batch):
        with T.sblock("shares"):
            T.reads()
            T.writes()
            output = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads, value_dim), "float32")
            peak = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads), "float32")
            weight = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads, PAGE_SIZE), "float32")
            partial = T.meta_var(_Partial(output, peak, weight))
            first = T.sblock_alloc_buffer((batch + 1,), "int32")
            count = local((1,), "int32")
            first[0] = 0
            for b in T.serial(batch):
                first[b + 1] = first[b] + table.num_seen_pages(b)
            count[0] = _num_shares(first[batch], heads.num_kv * heads.dim)
            shares = T.meta_var(_Shares(first, first[batch], count[0]))
            if count[0] == 1:
                run_share(tensors, table, partial, shares, 0, batch)
            else:
                for share in T.parallel(count[0]):
                    run_share(tensors, table, partial, shares, share, batch)
            for b in T.serial(batch):
                join(tensors, partial, shares, b)

    return all_shares


def decode_attention(
    heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """Rotated Q `(b, hq, d)`, the pages and each sequence's page table, and the score of each query head's
    sink `(hq,)` -> `(1, b, hq dv)`.

    Q, pages and output are of `dtype`, sinks are float32. The keys of the new tokens are in the pages. If
    there are anchors, Q is `(b, 2 hq, d)`, with the copy for them.
    """
    all_shares = _all_shares_macro(heads, scores, visible, dtype, unit)

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        pages: T.handle,
        first_pages: T.handle,
        listed: T.handle,
        lengths: T.handle,
        sinks: T.handle,
        out: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        batch = T.int32()
        num_pages = T.int64()
        Q = T.match_buffer(q, (batch, heads.num_q * visible.copies, heads.dim), dtype)
        P = match_pages(pages, num_pages, heads, dtype)
        table = T.meta_var(match_page_table(first_pages, listed, lengths, visible))
        S = T.match_buffer(sinks, (heads.num_q,), "float32")
        whole = T.match_buffer(out, (1, batch, heads.num_q * heads.value_dim), dtype)
        O = by_head(whole, heads)
        all_shares(_Tensors(Q, P, S, O), table, batch)

    return attention
