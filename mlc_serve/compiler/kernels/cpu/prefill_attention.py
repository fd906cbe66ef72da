"""Attention of many new tokens, over the new tokens themselves or over the pages of their sequences.

The sixteen lanes of a vector are sixteen queries: the query heads that share a KV head, token after token.
Their softmax then needs no sum across a register, keys and values are broadcast from memory, and a sequence
that brings a single token (a decode in a mixed batch) still fills as many lanes as it has heads to a KV head.
Keys are met sixteen at a time.

Base-2 online softmax as in `decode_attention`. A task is a pair of tiles of one KV head, one from each end of
the batch, because under a causal mask the work of a tile grows with its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.decode_attention import MASKED
from mlc_serve.compiler.kernels.cpu.exponential import exp2
from mlc_serve.compiler.kernels.cpu.lanes import LANES
from mlc_serve.compiler.kernels.cpu.pages import PAGE_SIZE

KEYS = PAGE_SIZE
_MAX_UNROLL = 4  # output dimensions in flight: enough independent additions to hide the latency of one


class _State(NamedTuple):
    """What a tile carries from block to block; the last axis of each is the lanes."""

    queries: T.Buffer  # (d, 16)
    scores: T.Buffer  # (16 keys, 16)
    output: T.Buffer  # (d, 16), not yet divided by `weight`
    limit: T.Buffer  # keys from here on are masked
    peak: T.Buffer  # the greatest score so far
    weight: T.Buffer  # the sum of 2^(score - peak) so far
    factor: T.Buffer  # what the last block's new peak scales the past by


class _Tiles:
    """The macros that both prefill kernels are made of; `load_k` and `load_v` say where a key's values lie.

    Both are called as `load(buffer, h, place, t, i)`: KV head, the block's first row or its page, the key in
    the block, the dimension.
    """

    def __init__(
        self, group: int, head_dim: int, load_k: Callable[..., Any], load_v: Callable[..., Any]
    ) -> None:
        unroll = math.gcd(head_dim, _MAX_UNROLL)

        @T.macro
        def score_block(K, queries, scores, h, place):
            with T.sblock("scores"):
                T.reads()
                T.writes()
                acc = T.sblock_alloc_buffer((KEYS, LANES), "float32", scope="local")
                for t in T.unroll(KEYS):
                    for lane in T.vectorized(LANES):
                        acc[t, lane] = T.float32(0)
                for i in T.serial(head_dim):
                    for t in T.unroll(KEYS):
                        for lane in T.vectorized(LANES):
                            acc[t, lane] = acc[t, lane] + queries[i, lane] * load_k(K, h, place, t, i)
                for t in T.unroll(KEYS):
                    for lane in T.vectorized(LANES):
                        scores[t, lane] = acc[t, lane]

        @T.macro
        def score_tail(K, queries, scores, h, place, num_keys):
            for t in T.serial(num_keys):
                for lane in T.vectorized(LANES):
                    scores[t, lane] = T.float32(0)
                for i in T.serial(head_dim):
                    for lane in T.vectorized(LANES):
                        scores[t, lane] = scores[t, lane] + queries[i, lane] * load_k(K, h, place, t, i)

        @T.macro
        def softmax_block(scores, limit, peak, weight, factor, first_key, scale):
            for lane in T.vectorized(LANES):
                factor[lane] = peak[lane]
            for t in T.unroll(KEYS):
                for lane in T.vectorized(LANES):
                    scores[t, lane] = T.Select(
                        first_key + t < limit[lane], scores[t, lane] * scale, T.float32(MASKED)
                    )
                for lane in T.vectorized(LANES):
                    peak[lane] = T.max(peak[lane], scores[t, lane])
            for lane in T.vectorized(LANES):
                factor[lane] = exp2(factor[lane] - peak[lane])
            for lane in T.vectorized(LANES):
                weight[lane] = weight[lane] * factor[lane]
            for t in T.unroll(KEYS):
                for lane in T.vectorized(LANES):
                    scores[t, lane] = exp2(scores[t, lane] - peak[lane])
                for lane in T.vectorized(LANES):
                    weight[lane] = weight[lane] + scores[t, lane]

        @T.macro
        def add_block(V, scores, output, factor, h, place, num_keys):
            for o in T.serial(head_dim // unroll):
                with T.sblock("values"):
                    T.reads()
                    T.writes()
                    acc = T.sblock_alloc_buffer((unroll, LANES), "float32", scope="local")
                    for j in T.unroll(unroll):
                        for lane in T.vectorized(LANES):
                            acc[j, lane] = output[o * unroll + j, lane] * factor[lane]
                    for t in T.serial(num_keys):
                        for j in T.unroll(unroll):
                            for lane in T.vectorized(LANES):
                                acc[j, lane] = acc[j, lane] + scores[t, lane] * load_v(
                                    V, h, place, t, o * unroll + j
                                )
                    for j in T.unroll(unroll):
                        for lane in T.vectorized(LANES):
                            output[o * unroll + j, lane] = acc[j, lane]

        @T.macro
        def attend_block(K, V, state, h, place, first_key, num_keys, scale):
            if num_keys == KEYS:
                score_block(K, state.queries, state.scores, h, place)
            else:
                score_tail(K, state.queries, state.scores, h, place, num_keys)
            softmax_block(state.scores, state.limit, state.peak, state.weight, state.factor, first_key, scale)
            add_block(V, state.scores, state.output, state.factor, h, place, num_keys)

        @T.macro
        def begin(Q, state, first_row, num_rows, num_keys, tile, h, causal):
            for lane in T.serial(LANES):
                with T.sblock("query"):
                    T.reads()
                    T.writes()
                    row = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    row[0] = T.min((tile * LANES + lane) // group, num_rows - 1)
                    state.limit[lane] = T.if_then_else(causal > 0, num_keys - num_rows + row[0] + 1, num_keys)
                    state.peak[lane] = T.float32(MASKED)
                    state.weight[lane] = T.float32(1)
                    for i in T.serial(head_dim):
                        state.queries[i, lane] = Q[
                            first_row + row[0], h * group + (tile * LANES + lane) % group, i
                        ]
                        state.output[i, lane] = T.float32(0)

        @T.macro
        def finish(out, lse, state, first_row, num_rows, tile, h):
            for lane in T.serial(T.min(LANES, num_rows * group - tile * LANES)):
                for i in T.serial(head_dim):
                    out[
                        first_row + (tile * LANES + lane) // group,
                        h * group + (tile * LANES + lane) % group,
                        i,
                    ] = state.output[i, lane] / state.weight[lane]
                lse[first_row + (tile * LANES + lane) // group, h * group + (tile * LANES + lane) % group] = (
                    T.log2(state.weight[lane]) + state.peak[lane]
                )

        self.begin, self.attend_block, self.finish = begin, attend_block, finish


def _all_tiles(tiles: _Tiles, group: int, num_kv_heads: int, head_dim: int, num_keys_of, place_of) -> Any:
    """The loop over all tiles of a batch, as a macro.

    `num_keys_of(b, lengths)` is how many keys sequence b meets, `place_of(b, block, lengths)` where a block
    of them lies.
    """

    @T.macro
    def attend_tile(Q, K, V, O, L, indptr, lengths, b, h, tile, causal, scale):
        with T.sblock("tile"):
            T.reads()
            T.writes()
            queries = T.sblock_alloc_buffer((head_dim, LANES), "float32", scope="local")
            scores = T.sblock_alloc_buffer((KEYS, LANES), "float32", scope="local")
            output = T.sblock_alloc_buffer((head_dim, LANES), "float32", scope="local")
            limit = T.sblock_alloc_buffer((LANES,), "int32", scope="local")
            peak = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            weight = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            factor = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            state = T.meta_var(_State(queries, scores, output, limit, peak, weight, factor))
            first_row = T.meta_var(indptr[b])
            num_rows = T.meta_var(indptr[b + 1] - indptr[b])
            num_keys = T.meta_var(num_keys_of(b, lengths))
            tiles.begin(Q, state, first_row, num_rows, num_keys, tile, h, causal)
            for block in T.serial((limit[LANES - 1] + KEYS - 1) // KEYS):
                tiles.attend_block(
                    K,
                    V,
                    state,
                    h,
                    place_of(b, block, lengths),
                    block * KEYS,
                    T.min(KEYS, num_keys - block * KEYS),
                    scale * T.float32(math.log2(math.e)),
                )
            tiles.finish(O, L, state, first_row, num_rows, tile, h)

    @T.macro
    def all_tiles(Q, K, V, O, L, indptr, lengths, num_rows, batch, causal, scale):
        for task in T.parallel((num_rows * group // LANES + batch + 1) // 2 * num_kv_heads):
            for side in T.serial(2):
                with T.sblock("find"):
                    T.reads()
                    T.writes()
                    last = T.meta_var(num_rows * group // LANES + batch - 1)
                    pair = T.meta_var(task // num_kv_heads)
                    tile = T.sblock_alloc_buffer(
                        (1,), "int32", scope="local"
                    )  # counted from the sequence's first
                    tile[0] = T.if_then_else(side == 0, pair, last - pair)
                    if side == 0 or tile[0] != pair:
                        for b in T.serial(batch):
                            if tile[0] >= 0 and tile[0] * LANES < (indptr[b + 1] - indptr[b]) * group:
                                attend_tile(
                                    Q,
                                    K,
                                    V,
                                    O,
                                    L,
                                    indptr,
                                    lengths,
                                    b,
                                    task % num_kv_heads,
                                    tile[0],
                                    causal,
                                    scale,
                                )
                            tile[0] = tile[0] - ((indptr[b + 1] - indptr[b]) * group + LANES - 1) // LANES

    return all_tiles


def ragged_prefill_attention(num_q_heads: int, num_kv_heads: int, head_dim: int) -> tirx.PrimFunc:
    """New tokens over the new tokens of their own sequence.

    Q `(s, hq, d)`, K and V `(s, hkv, d)`, rotated -> `(s, hq, d)` and log2 weights `(s, hq)`, float32.
    """
    group = num_q_heads // num_kv_heads
    tiles = _Tiles(
        group,
        head_dim,
        load_k=lambda buffer, h, place, t, i: buffer[place + t, h, i],
        load_v=lambda buffer, h, place, t, i: buffer[place + t, h, i],
    )
    all_tiles = _all_tiles(
        tiles,
        group,
        num_kv_heads,
        head_dim,
        num_keys_of=lambda b, indptr: indptr[b + 1] - indptr[b],
        place_of=lambda b, block, indptr: indptr[b] + block * KEYS,
    )

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        q_indptr: T.handle,
        k: T.handle,
        v: T.handle,
        kv_indptr: T.handle,
        q_rope_position: T.handle,
        k_rope_pos_offset: T.handle,
        out: T.handle,
        lse: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        batch = T.int32()
        num_rows = T.int32()
        num_keys = T.int32()
        q_indptr_offset = T.int32()
        kv_indptr_offset = T.int32()
        q_position_offset = T.int32()
        k_start_offset = T.int32()
        Q = T.match_buffer(q, (num_rows, num_q_heads, head_dim), "float32")
        Q_indptr = T.match_buffer(q_indptr, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        K = T.match_buffer(k, (num_keys, num_kv_heads, head_dim), "float32")
        V = T.match_buffer(v, (num_keys, num_kv_heads, head_dim), "float32")
        KV_indptr = T.match_buffer(kv_indptr, (batch + 1,), "int32", elem_offset=kv_indptr_offset)
        Q_position = T.match_buffer(q_rope_position, (num_rows,), "int32", elem_offset=q_position_offset)
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_start_offset)
        O = T.match_buffer(out, (num_rows, num_q_heads, head_dim), "float32")
        L = T.match_buffer(lse, (num_rows, num_q_heads), "float32")
        all_tiles(Q, K, V, O, L, Q_indptr, KV_indptr, num_rows, batch, causal, sm_scale)

    return attention


class _PageTable(NamedTuple):
    """Which pages hold each sequence's keys, and how many of the last one's slots are filled."""

    indptr: T.Buffer
    listed: T.Buffer
    last_page: T.Buffer


def paged_prefill_attention(num_q_heads: int, num_kv_heads: int, head_dim: int) -> tirx.PrimFunc:
    """New tokens over the pages of their sequence: what came before them, or, if `causal`, themselves too.

    Q `(s, hq, d)` rotated, pages, and each sequence's page table -> `(s, hq, d)` and log2 weights `(s, hq)`,
    float32.
    """
    group = num_q_heads // num_kv_heads
    tiles = _Tiles(
        group,
        head_dim,
        load_k=lambda buffer, h, page, t, i: buffer[page, 0, h, i * PAGE_SIZE + t],
        load_v=lambda buffer, h, page, t, i: buffer[page, 1, h, t * head_dim + i],
    )

    def num_keys_of(b: Any, table: _PageTable) -> Any:
        num_pages = table.indptr[b + 1] - table.indptr[b]
        return tirx.if_then_else(num_pages > 0, (num_pages - 1) * PAGE_SIZE + table.last_page[b], 0)

    all_tiles = _all_tiles(
        tiles,
        group,
        num_kv_heads,
        head_dim,
        num_keys_of,
        place_of=lambda b, block, table: table.listed[table.indptr[b] + block],
    )

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        q_indptr: T.handle,
        pages: T.handle,
        page_indptr: T.handle,
        page_values: T.handle,
        length_info: T.handle,
        k_rope_pos_offset: T.handle,
        q_rope_position: T.handle,
        out: T.handle,
        lse: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        batch = T.int32()
        num_rows = T.int32()
        num_listed = T.int32()
        num_pages = T.int32()
        q_indptr_offset = T.int32()
        indptr_offset = T.int32()
        values_offset = T.int32()
        length_offset = T.int32()
        k_start_offset = T.int32()
        q_position_offset = T.int32()
        Q = T.match_buffer(q, (num_rows, num_q_heads, head_dim), "float32")
        Q_indptr = T.match_buffer(q_indptr, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        P = T.match_buffer(pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), "float32")
        indptr = T.match_buffer(page_indptr, (batch + 1,), "int32", elem_offset=indptr_offset)
        listed = T.match_buffer(page_values, (num_listed,), "int32", elem_offset=values_offset)
        last_page = T.match_buffer(length_info, (batch,), "int32", elem_offset=length_offset)
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_start_offset)
        Q_position = T.match_buffer(q_rope_position, (num_rows,), "int32", elem_offset=q_position_offset)
        O = T.match_buffer(out, (num_rows, num_q_heads, head_dim), "float32")
        L = T.match_buffer(lse, (num_rows, num_q_heads), "float32")
        flat = T.decl_buffer((num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim), "float32", data=P.data)
        table = T.meta_var(_PageTable(indptr, listed, last_page))
        all_tiles(Q, flat, flat, O, L, Q_indptr, table, num_rows, batch, causal, sm_scale)

    return attention
