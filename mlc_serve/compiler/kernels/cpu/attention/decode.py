"""Attention of one new token of each sequence over the pages of that sequence.

The pages of all sequences, one after another, are cut into equal shares, which threads take. So a batch of
any lengths is balanced, and a single long sequence is spread over all threads. A share writes the results of
the sequences that it holds whole. For the sequences that its two ends cut through, it keeps partial results,
which are joined when all shares are done.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.page_run import MASKED, PageRuns, TokenState
from mlc_serve.compiler.kernels.cpu.attention.page_table import match_page_table
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, flat_pages, match_int32
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
    """How the `work` pages of all sequences are cut into `count` shares."""

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

    output: Any  # (2 shares, hq, d), not divided by their weight
    peak: Any  # (2 shares, hq)
    weight: Any  # (2 shares, hq, 16)


class _Tensors(NamedTuple):
    Q: Any
    P: Any
    O: Any
    L: Any
    scale: Any  # of scores, and log2(e), because softmax is in base 2


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
    num_heads, head_dim, count = runs.heads.num_q, runs.heads.dim, runs.pages_per_run

    @T.macro
    def keep(state, partial, index):
        for g in T.serial(num_heads):
            partial.peak[index, g] = state.peak[g]
            for t in T.vectorized(PAGE_SIZE):
                partial.weight[index, g, t] = state.weight[g, t]
            for i in T.serial(head_dim):
                partial.output[index, g, i] = state.output[g, i]

    @T.macro
    def attend_part(tensors, table, partial, shares, share, b, last_listed):
        with T.sblock("part"):
            T.reads()
            T.writes()
            queries = local((num_heads, head_dim))
            output = local((num_heads, head_dim))
            peak = local((num_heads,))
            weight = local((num_heads, PAGE_SIZE))
            state = T.meta_var(TokenState(queries, output, peak, weight))
            start = T.meta_var(table.indptr[b])
            first = local((1,), "int32")
            end = local((1,), "int32")
            first[0] = T.max(shares.bound(share) - start, 0)
            end[0] = T.min(shares.bound(share + 1) - start, table.num_pages(b))
            if first[0] < end[0]:
                runs.begin(tensors.Q, state, b, tensors.scale)
                for run in T.serial((end[0] - first[0] + count - 1) // count):
                    page = T.meta_var(first[0] + run * count)
                    if table.sees_some(b, page * PAGE_SIZE, (page + count) * PAGE_SIZE):
                        runs.attend(tensors.P, table, state, b, page, end[0], last_listed)
                if first[0] > 0:
                    keep(state, partial, share * 2)
                elif end[0] < table.num_pages(b):
                    keep(state, partial, share * 2 + 1)
                else:
                    runs.finish(tensors.O, tensors.L, state, b, dtype)

    @T.macro
    def run_share(tensors, table, partial, shares, share, batch):
        for b in T.serial(batch):
            if T.And(table.indptr[b] < shares.bound(share + 1), table.indptr[b + 1] > shares.bound(share)):
                attend_part(tensors, table, partial, shares, share, b, table.indptr[batch] - 1)

    return run_share


def _join_macro(num_heads: int, head_dim: int, dtype: str) -> Any:
    """The macro `join(tensors, table, partial, shares, b)`: write the result of sequence b if no share could
    write it alone, because it lies in several shares or is empty.
    """
    step = lanes(head_dim)

    @T.macro
    def join_parts(tensors, partial, row, query, first, last):
        with T.sblock("join"):
            T.reads()
            T.writes()
            peak = local((1,))
            total = local((1,))
            factor = local((1,))
            output = local((head_dim,))
            peak[0] = partial.peak[first * 2 + 1, query]
            for share in T.serial(last - first):
                peak[0] = T.max(peak[0], partial.peak[(first + 1 + share) * 2, query])
            total[0] = T.float32(0)
            for i in T.vectorized(head_dim):
                output[i] = T.float32(0)
            for share in T.serial(last - first + 1):
                index = T.meta_var((first + share) * 2 + T.if_then_else(share == 0, 1, 0))
                factor[0] = exp2(partial.peak[index, query] - peak[0])
                for t in T.serial(PAGE_SIZE):
                    total[0] = total[0] + partial.weight[index, query, t] * factor[0]
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        output[i * step + lane] = (
                            output[i * step + lane]
                            + partial.output[index, query, i * step + lane] * factor[0]
                        )
            for i in T.serial(head_dim // step):
                for lane in T.vectorized(step):
                    tensors.O[row, query, i * step + lane] = T.Cast(dtype, output[i * step + lane] / total[0])
            tensors.L[row, query] = T.log2(total[0]) + peak[0]

    @T.macro
    def clear(tensors, row, query):
        for i in T.serial(head_dim):
            tensors.O[row, query, i] = T.Cast(dtype, T.float32(0))
        tensors.L[row, query] = T.float32(MASKED)

    @T.macro
    def join(tensors, table, partial, shares, b):
        first = T.meta_var(shares.share_of(table.indptr[b]))
        last = T.meta_var(shares.share_of(table.indptr[b + 1] - 1))
        if table.num_pages(b) == 0:
            for query in T.serial(num_heads):
                clear(tensors, b, query)
        elif first < last:
            for query in T.serial(num_heads):
                join_parts(tensors, partial, b, query, first, last)

    return join


def _all_shares_macro(heads: Heads, dtype: str, unit: FloatUnit) -> Any:
    """The macro `all_shares(tensors, table, batch)` for the whole batch."""
    num_heads, head_dim = heads.num_q, heads.dim
    run_share = _run_share_macro(PageRuns(heads, unit.sums), dtype)
    join = _join_macro(num_heads, head_dim, dtype)

    @T.macro
    def all_shares(tensors, table, batch):
        with T.sblock("shares"):
            T.reads()
            T.writes()
            output = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads, head_dim), "float32")
            peak = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads), "float32")
            weight = T.sblock_alloc_buffer((2 * _MAX_SHARES, num_heads, PAGE_SIZE), "float32")
            partial = T.meta_var(_Partial(output, peak, weight))
            work = local((1,), "int32")
            count = local((1,), "int32")
            work[0] = table.indptr[batch]
            count[0] = _num_shares(work[0], heads.num_kv * head_dim)
            shares = T.meta_var(_Shares(work[0], count[0]))
            if count[0] == 1:
                run_share(tensors, table, partial, shares, 0, batch)
            else:
                for share in T.parallel(count[0]):
                    run_share(tensors, table, partial, shares, share, batch)
            for b in T.serial(batch):
                join(tensors, table, partial, shares, b)

    return all_shares


def decode_attention(heads: Heads, dtype: str, unit: FloatUnit, *, windowed: bool = False) -> tirx.PrimFunc:
    """Q `(b, hq, d)`, pages, and each sequence's page table -> `(b, hq, d)` and log2 weights `(b, hq)`.

    The parameters are those that TVM's paged KV cache passes; Q and K arrive rotated. Q, pages and output are
    of `dtype`, log2 weights are float32. With `windowed`, a sequence sees only its attention sinks and its
    window: see `PageTable`.
    """
    all_shares = _all_shares_macro(heads, dtype, unit)

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        pages: T.handle,
        page_indptr: T.handle,
        page_values: T.handle,
        length_info: T.handle,
        k_rope_pos_offset: T.handle,
        q_rope_position: T.handle,
        out: T.handle,
        lse: T.handle,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        batch = T.int32()
        num_pages = T.int32()
        Q = T.match_buffer(q, (batch, heads.num_q, heads.dim), dtype)
        P = T.match_buffer(pages, (num_pages, 2, heads.num_kv, PAGE_SIZE, heads.dim), dtype)
        table = T.meta_var(match_page_table(page_indptr, page_values, length_info, batch, windowed=windowed))
        K_start = match_int32(k_rope_pos_offset, batch)
        Q_position = match_int32(q_rope_position, batch)
        O = T.match_buffer(out, (batch, heads.num_q, heads.dim), dtype)
        L = T.match_buffer(lse, (batch, heads.num_q), "float32")
        flat = flat_pages(P)
        tensors = T.meta_var(_Tensors(Q, flat, O, L, sm_scale * T.float32(math.log2(math.e))))
        all_shares(tensors, table, batch)

    return attention
