"""The queries of one token over some pages of its sequence.

The lanes of a vector are the positions of a page. Online softmax (Milakov and Gimelshein, 2018) in base 2, as
the KV cache's merge expects: what comes out is not yet divided by the weight of its keys. Several pages are
scored together, so that enough independent sums hide the latency of one multiplication. Pages lie anywhere in
memory: while one KV head of them is computed, the next is fetched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.page_table import PageTable
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.horizontal import horizontal_max, horizontal_sum
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.local import local
from mlc_serve.compiler.kernels.cpu.primitives.prefetch import fetch_line

MASKED = -5e4  # a score that no real one comes near, and that cancels out once a real one is seen


class AttentionState(NamedTuple):
    """Local buffers of one task: what it carries from block to block, for each query head."""

    queries: Any  # (hq, d), scaled
    output: Any  # (hq, d), not divided by `weight`
    peak: Any  # (hq,) the greatest score so far
    weight: Any  # (hq, 16) the sum of 2^(score - peak) so far, over all lanes


class _Cut(NamedTuple):
    """How the query heads of a KV head are computed."""

    group: int  # query heads
    head_dim: int
    num_kv_heads: int
    together: int  # query heads that are summed up at a time, over
    pages: int  # for scores, or
    width: int  # vectors of a value


class _Block(NamedTuple):
    """Pages that are computed together, and those that come after them."""

    page: Any
    valid: Any  # how many positions of each are there
    ahead: Any


def _divisor(extent: int, limit: int) -> int:
    """The greatest divisor of `extent` that is at most `limit`."""
    return max(n for n in range(1, extent + 1) if extent % n == 0 and n <= max(1, limit))


class PageAttention:
    """Macros for the query heads of a token; `attend` takes one block of `pages_per_block` pages. Registers
    hold `sums` vectors of sums.
    """

    def __init__(self, num_q_heads: int, num_kv_heads: int, head_dim: int, sums: int) -> None:
        group = num_q_heads // num_kv_heads
        self.num_q_heads, self.num_kv_heads, self.head_dim = num_q_heads, num_kv_heads, head_dim
        together = _divisor(group, sums // 2)
        self.pages_per_block = count = max(1, min(4, sums // together))
        width = _divisor(head_dim // lanes(head_dim), sums // together)
        cut = _Cut(group, head_dim, num_kv_heads, together, count, width)
        self.begin, self.finish = _begin(num_q_heads, head_dim), _finish(num_q_heads, head_dim)
        score, soften, add_values = _score(cut), _soften(cut), _add_values(cut)

        @T.macro
        def attend(P, table, state, b, first, end, last_listed):
            with T.sblock("block"):
                T.reads()
                T.writes()
                page = local((count,), "int32")
                valid = local((count,), "int32")
                ahead = local((count,), "int32")
                scores = local((group, count * PAGE_SIZE))
                block = T.meta_var(_Block(page, valid, ahead))
                for p in T.unroll(count):
                    page[p] = table.page(b, T.min(first + p, end - 1))
                    valid[p] = T.if_then_else(
                        first + p < end, T.min(PAGE_SIZE, table.num_keys(b) - (first + p) * PAGE_SIZE), 0
                    )
                    ahead[p] = table.listed[T.min(table.indptr[b] + first + count + p, last_listed)]
                for h in T.serial(num_kv_heads):
                    score(P, table, state, scores, block, (b, h, first))
                    soften(state, scores, h)
                    add_values(P, state, scores, block, h)

        self.attend = attend


def _prefetch(num_kv_heads: int) -> Any:
    """Fetch from the next KV head of page p of a block, or from the first head of the page after it."""

    @T.macro
    def prefetch(P, block, p, part, h, offset):
        T.evaluate(
            fetch_line(
                P[
                    T.Select(h + 1 < num_kv_heads, block.page[p], block.ahead[p]),
                    part,
                    T.Select(h + 1 < num_kv_heads, h + 1, 0),
                    offset,
                ]
            )
        )

    return prefetch


def _begin(num_heads: int, head_dim: int) -> Any:
    @T.macro
    def begin(Q, state, row, scale):
        for g in T.serial(num_heads):
            state.peak[g] = T.float32(MASKED)
            for t in T.vectorized(PAGE_SIZE):
                state.weight[g, t] = T.float32(1.0 / PAGE_SIZE)
            for i in T.serial(head_dim):
                state.queries[g, i] = T.Cast("float32", Q[row, g, i]) * scale
                state.output[g, i] = T.float32(0)

    return begin


def _score(cut: _Cut) -> Any:
    """Scores of all keys of a block; those that are not there or not seen become MASKED."""
    group, head_dim, num_kv_heads, together, count, _ = cut
    prefetch = _prefetch(num_kv_heads)

    @T.macro
    def score(P, table: PageTable, state, scores, block, place):
        for chunk in T.unroll(group // together):
            with T.sblock("scores"):
                T.reads()
                T.writes()
                acc = local((together, count, PAGE_SIZE))
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            acc[g, p, t] = T.float32(0)
                for i in T.serial(head_dim):
                    for p in T.unroll(count):
                        prefetch(P, block, p, 0, place[1], i * PAGE_SIZE)
                        for g in T.unroll(together):
                            for t in T.vectorized(PAGE_SIZE):
                                acc[g, p, t] = acc[g, p, t] + state.queries[
                                    place[1] * group + chunk * together + g, i
                                ] * T.Cast("float32", P[block.page[p], 0, place[1], i * PAGE_SIZE + t])
                for g in T.unroll(together):
                    for p in T.unroll(count):
                        for t in T.vectorized(PAGE_SIZE):
                            scores[chunk * together + g, p * PAGE_SIZE + t] = T.Select(
                                T.And(
                                    t < block.valid[p], table.sees(place[0], (place[2] + p) * PAGE_SIZE + t)
                                ),
                                acc[g, p, t],
                                T.float32(MASKED),
                            )

    return score


def _soften(cut: _Cut) -> Any:
    """Scores become weights relative to the greatest so far, and the past is scaled to it."""
    group, head_dim, count = cut.group, cut.head_dim, cut.pages
    step = lanes(head_dim)

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
                peak[0] = horizontal_max(top[T.Ramp(0, 1, PAGE_SIZE)], PAGE_SIZE)
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


def _add_values(cut: _Cut) -> Any:
    """Add the values of the keys that are there: unused slots may hold anything."""
    group, head_dim, num_kv_heads, together, count, width = cut
    step = lanes(head_dim)
    prefetch = _prefetch(num_kv_heads)

    @T.macro
    def add_values(P, state, scores, block, h):
        for chunk, part in T.grid(group // together, head_dim // step // width):
            with T.sblock("values"):
                T.reads()
                T.writes()
                acc = local((together, width, step))
                first = T.meta_var(chunk * together)
                query = T.meta_var(h * group + chunk * together)
                column = T.meta_var(part * width * step)
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            acc[g, j, lane] = state.output[query + g, column + j * step + lane]
                for p in T.serial(count):
                    for t in T.serial(block.valid[p]):
                        for j in T.unroll(width):
                            prefetch(P, block, p, 1, h, t * head_dim + column + j * step)
                            for g in T.unroll(together):
                                for lane in T.vectorized(step):
                                    acc[g, j, lane] = acc[g, j, lane] + scores[
                                        first + g, p * PAGE_SIZE + t
                                    ] * T.Cast(
                                        "float32",
                                        P[block.page[p], 1, h, t * head_dim + column + j * step + lane],
                                    )
                for g in T.unroll(together):
                    for j in T.unroll(width):
                        for lane in T.vectorized(step):
                            state.output[query + g, column + j * step + lane] = acc[g, j, lane]

    return add_values


def _finish(num_heads: int, head_dim: int) -> Any:
    step = lanes(head_dim)

    @T.macro
    def finish(out, lse, state, row, dtype):
        for g in T.serial(num_heads):
            with T.sblock("finish"):
                T.reads()
                T.writes()
                total = local((1,))
                inverse = local((1,))
                total[0] = horizontal_sum(state.weight[g, T.Ramp(0, 1, PAGE_SIZE)], PAGE_SIZE)
                inverse[0] = T.float32(1) / total[0]
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        out[row, g, i * step + lane] = T.Cast(
                            dtype, state.output[g, i * step + lane] * inverse[0]
                        )
                lse[row, g] = T.log2(total[0]) + state.peak[g]

    return finish
