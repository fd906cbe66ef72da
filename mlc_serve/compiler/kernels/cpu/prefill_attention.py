"""Attention of many new tokens, over the new tokens themselves or over the pages of their sequences.

Base-2 online softmax as in `decode_attention`. A task is a pair of tasks of `prefill_tiles` for one KV head,
one from each end of the batch, because under a causal mask the work of a tile grows with its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.lanes import lanes
from mlc_serve.compiler.kernels.cpu.local import local
from mlc_serve.compiler.kernels.cpu.page_attention import AttentionState, PageAttention
from mlc_serve.compiler.kernels.cpu.page_table import PageTable
from mlc_serve.compiler.kernels.cpu.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.prefill_tiles import (
    BLOCK,
    QUERIES,
    STEP,
    TILES,
    Place,
    TileState,
    add_block,
    load_queries,
    row_words,
    score_block,
    soften_block,
    store_output,
    vector,
    widened,
)
from mlc_serve.compiler.kernels.cpu.products import Products

_TASK = TILES * QUERIES


class Heads(NamedTuple):
    """The shape of attention."""

    num_q: int
    num_kv: int
    dim: int

    @property
    def group(self) -> int:
        """Query heads to a KV head."""
        return self.num_q // self.num_kv


class _Span(NamedTuple):
    """Which of a sequence's keys its rows see. With a `window`, the table says which are sinks and where the
    sequence's window begins, and under a causal mask the rows follow the keys, each with a window of its own.
    """

    num_keys: Any
    num_rows: Any
    causal: Any
    sinks: Any
    window_start: Any
    window: int | None

    def limit(self, row: Any) -> Any:
        """The first key that is too late for a row."""
        if self.window:
            return self.num_keys
        return tirx.if_then_else(self.causal > 0, self.num_keys - self.num_rows + row + 1, self.num_keys)

    def start(self, row: Any) -> Any:
        """The first key that is not too early, but for sinks."""
        if not self.window:
            return tirx.const(0, "int32")
        before = tirx.max(self.window - 1 - row, 0)
        own_start = tirx.if_then_else(self.causal > 0, self.num_keys - before, 0)
        return tirx.max(self.window_start, own_start)

    def sees(self, key: Any, start: Any, limit: Any) -> Any:
        """Whether a row with these bounds sees a key."""
        if not self.window:
            return key < limit
        return tirx.And(key < limit, tirx.Or(key >= start, key < self.sinks))

    def hides_some(self, end: Any, least_limit: Any) -> Any:
        """Whether any row may not see one of the keys before `end`."""
        return tirx.const(True, "bool") if self.window else end > least_limit

    def sees_some(self, first: Any, end: Any) -> Any:
        """Whether any row sees any of the keys [first, end)."""
        if not self.window:
            return tirx.const(True, "bool")
        return tirx.Or(end > self.window_start, first < self.sinks)


class _Batch(NamedTuple):
    """The kernel's tensors. K and V are the pages, or what a new token has."""

    Q: Any
    K: Any
    V: Any
    O: Any
    L: Any
    indptr: Any
    keys: Any  # where keys are: a page table, or the first row of each sequence
    num_sequences: Any
    causal: Any
    scale: Any


def _num_tasks(source: Any, batch: _Batch, b: Any) -> Any:
    """Tasks of a sequence: none if it is left to `attend_single`."""
    num_rows = batch.indptr[b + 1] - batch.indptr[b]
    tasks = tirx.floordiv(num_rows * source.heads.group + _TASK - 1, _TASK)
    return tasks if source.attend_single is None else tirx.if_then_else(num_rows > 1, tasks, 0)


class _Ragged:
    """Keys and values `(s, hkv, d)` of new tokens."""

    def __init__(self, heads: Heads, products: Products) -> None:
        self.heads, self.products = heads, products
        num_words = heads.dim // products.pair
        self.key_strides = (num_words, 1)
        step = lanes(num_words)

        @T.macro
        def convert_keys(batch, state, b, h, first_key, count):
            for t in T.serial(count):
                row = T.meta_var(batch.keys[b] + T.min(first_key + t, self.num_keys(batch, b) - 1))
                for i in T.unroll(num_words // step):
                    columns = T.meta_var(vector(i * step * products.pair, step * products.pair))
                    state.keys[vector(t * num_words + i * step, step)] = row_words(
                        products, widened(batch.K[row, h, columns], step * products.pair), step
                    )

        @T.macro
        def attend_single(batch, b):
            for h in T.serial(heads.num_q):
                score = local((heads.dim,))
                total = local((1,))
                row = T.meta_var(batch.indptr[b])
                for i in T.vectorized(heads.dim):
                    score[i] = T.Cast("float32", batch.Q[row, h, i]) * T.Cast(
                        "float32", batch.K[batch.keys[b], h // heads.group, i]
                    )
                total[0] = 0
                for i in T.serial(heads.dim):
                    total[0] = total[0] + score[i]
                for i in T.vectorized(heads.dim):
                    batch.O[row, h, i] = batch.V[batch.keys[b], h // heads.group, i]
                batch.L[row, h] = total[0] * batch.scale

        self.convert_keys, self.attend_single = convert_keys, attend_single
        self.parallel_singles = 1024 // heads.num_q

    def num_keys(self, batch: _Batch, b: Any) -> Any:
        return batch.keys[b + 1] - batch.keys[b]

    def span(self, batch: _Batch, b: Any, num_rows: Any) -> _Span:
        return _Span(self.num_keys(batch, b), num_rows, batch.causal, None, None, None)

    def value(self, batch: _Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return batch.V[batch.keys[b] + key, h, columns]


class _Paged:
    """Keys and values in pages: see `pages`."""

    def __init__(self, heads: Heads, dtype: str, products: Products, window: int | None) -> None:
        self.heads, self.products, self.window = heads, products, window
        self.attend_single = None if window else _attend_single(heads, dtype)
        self.parallel_singles = 2
        num_words, pair = heads.dim // products.pair, products.pair
        self.key_strides = (1, BLOCK)

        def words(batch: _Batch, page: Any, h: Any, i: Any) -> Any:
            rows = [batch.K[page, 0, h, vector((i * pair + j) * PAGE_SIZE, PAGE_SIZE)] for j in range(pair)]
            return products.pack([widened(row, PAGE_SIZE) for row in rows], PAGE_SIZE)

        @T.macro
        def convert_keys(batch, state, b, h, first_key, count):
            for p in T.serial((count + PAGE_SIZE - 1) // PAGE_SIZE):
                page = local((1,), "int32")
                page[0] = batch.keys.page(b, first_key // PAGE_SIZE + p)
                for i in T.serial(num_words):
                    state.keys[vector(i * BLOCK + p * PAGE_SIZE, PAGE_SIZE)] = words(batch, page[0], h, i)

        self.convert_keys = convert_keys

    def num_keys(self, batch: _Batch, b: Any) -> Any:
        return batch.keys.num_keys(b)

    def span(self, batch: _Batch, b: Any, num_rows: Any) -> _Span:
        table = batch.keys
        bounds = (table.lengths[2, b], table.lengths[1, b]) if self.window else (None, None)
        return _Span(table.num_keys(b), num_rows, batch.causal, *bounds, self.window)

    def value(self, batch: _Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        page = batch.keys.page(b, tirx.floordiv(key, PAGE_SIZE))
        return batch.V[page, 1, h, tirx.floormod(key, PAGE_SIZE) * self.heads.dim + columns]


def _attend_single(heads: Heads, dtype: str) -> Any:
    """The macro for a sequence with one new token, which is a decode."""
    pages = PageAttention(*heads)
    count = pages.pages_per_block

    @T.macro
    def attend_single(batch, b):
        with T.sblock("single"):
            T.reads()
            T.writes()
            queries = local((heads.num_q, heads.dim))
            output = local((heads.num_q, heads.dim))
            peak = local((heads.num_q,))
            weight = local((heads.num_q, PAGE_SIZE))
            state = T.meta_var(AttentionState(queries, output, peak, weight))
            num_pages = T.meta_var(batch.keys.num_pages(b))
            last_listed = T.meta_var(batch.keys.indptr[batch.num_sequences] - 1)
            pages.begin(batch.Q, state, batch.indptr[b], batch.scale)
            for block in T.serial((num_pages + count - 1) // count):
                pages.attend(batch.K, batch.keys, state, b, block * count, num_pages, last_listed)
            pages.finish(batch.O, batch.L, state, batch.indptr[b], dtype)

    return attend_single


def _convert_values(source: Any, products: Products) -> Any:
    head_dim, pair = source.heads.dim, products.pair
    step = lanes(head_dim)

    def words(batch: _Batch, b: Any, h: Any, key: Any, last: Any, column: Any) -> Any:
        rows = [source.value(batch, b, h, tirx.min(key + j, last), vector(column, step)) for j in range(pair)]
        return products.pack([widened(row, step) for row in rows], step)

    @T.macro
    def convert_values(batch, state, b, h, first_key, count):
        for t in T.serial(count // pair):
            for i in T.unroll(head_dim // step):
                state.values[t, vector(i * step, step)] = words(
                    batch, b, h, first_key + t * pair, source.num_keys(batch, b) - 1, i * step
                )

    return convert_values


def _attend_task(source: Any, products: Products, dtype: str) -> Any:
    """The macro for the queries of one task: over all blocks of keys that they see."""
    heads = source.heads
    begin, finish = (
        load_queries(heads.group, heads.dim, products),
        store_output(heads.group, heads.dim, dtype),
    )
    score = score_block(heads.dim // products.pair, source.key_strides, products)
    (mask, soften), add = soften_block(products), add_block(heads.dim, products)
    convert_values = _convert_values(source, products)

    @T.macro
    def attend_tile(state, r, first_key, span):
        count = local((1,), "int32")
        factor = local((2, 16))
        count[0] = T.min(BLOCK, (state.limit[r, QUERIES - 1] - first_key + STEP - 1) // STEP * STEP)
        if count[0] > 0:
            score(state, r, count[0])
            if span.hides_some(first_key + count[0], state.limit[r, 0]):
                mask(state, r, count[0], first_key, span)
            soften(state, r, count[0], factor)
            add(state, r, count[0], factor)

    @T.macro
    def attend_task(batch, state, b, place):
        num_tiles = local((1,), "int32")
        last = local((1,), "int32")
        span = T.meta_var(source.span(batch, b, place.num_rows))
        num_tiles[0] = T.min(
            TILES, (place.num_rows * heads.group - place.tile * _TASK + QUERIES - 1) // QUERIES
        )
        for r in T.serial(num_tiles[0]):
            begin(batch.Q, state, place, r, span, batch.scale)
        last[0] = state.limit[num_tiles[0] - 1, QUERIES - 1]
        for block in T.serial((last[0] + BLOCK - 1) // BLOCK):
            count = T.meta_var((T.min(BLOCK, last[0] - block * BLOCK) + STEP - 1) // STEP * STEP)
            if span.sees_some(block * BLOCK, (block + 1) * BLOCK):
                source.convert_keys(batch, state, b, place.head, block * BLOCK, count)
                convert_values(batch, state, b, place.head, block * BLOCK, count)
                for r in T.serial(num_tiles[0]):
                    attend_tile(state, r, block * BLOCK, span)
        for r in T.serial(num_tiles[0]):
            finish(batch.O, batch.L, state, place, r)

    return attend_task


def _all_tasks(source: Any, products: Products, dtype: str) -> Any:
    """The macro for a whole batch."""
    heads = source.heads
    num_words = heads.dim // products.pair
    attend_task = _attend_task(source, products, dtype)

    @T.macro
    def find_task(batch, state, index, h):
        tile = local((1,), "int32")  # counted from the sequence's first
        tile[0] = index
        for b in T.serial(batch.num_sequences):
            num_rows = T.meta_var(batch.indptr[b + 1] - batch.indptr[b])
            if T.And(tile[0] >= 0, tile[0] < _num_tasks(source, batch, b)):
                attend_task(batch, state, b, Place(batch.indptr[b], num_rows, tile[0], h))
            tile[0] = tile[0] - _num_tasks(source, batch, b)

    @T.macro
    def run_pair(batch, pair, h, num_tasks):
        with T.sblock("pair"):
            T.reads()
            T.writes()
            queries = T.sblock_alloc_buffer((TILES, num_words, QUERIES), products.word)
            output = T.sblock_alloc_buffer((TILES, heads.dim, QUERIES), "float32")
            limit = T.sblock_alloc_buffer((TILES, QUERIES), "int32")
            start = T.sblock_alloc_buffer((TILES, QUERIES), "int32")
            peak = T.sblock_alloc_buffer((TILES, QUERIES), "float32")
            weight = T.sblock_alloc_buffer((TILES, QUERIES), "float32")
            keys = T.sblock_alloc_buffer((BLOCK * num_words,), products.word)
            values = T.sblock_alloc_buffer((BLOCK // products.pair, heads.dim), products.word)
            scores = T.sblock_alloc_buffer((BLOCK, QUERIES), "float32")
            weights = T.sblock_alloc_buffer((BLOCK // products.pair, QUERIES), products.word)
            state = T.meta_var(
                TileState(queries, output, limit, start, peak, weight, keys, values, scores, weights)
            )
            for side in T.serial(T.if_then_else(pair * 2 + 1 == num_tasks, 1, 2)):
                find_task(batch, state, T.if_then_else(side == 0, pair, num_tasks - 1 - pair), h)

    @T.macro
    def attend_singles(batch):
        num_singles = local((1,), "int32")
        num_singles[0] = 0
        for b in T.serial(batch.num_sequences):
            num_singles[0] = num_singles[0] + T.if_then_else(batch.indptr[b + 1] - batch.indptr[b] == 1, 1, 0)
        if num_singles[0] >= source.parallel_singles:
            for b in T.parallel(batch.num_sequences):
                if batch.indptr[b + 1] - batch.indptr[b] == 1:
                    source.attend_single(batch, b)
        else:
            for b in T.serial(batch.num_sequences):
                if batch.indptr[b + 1] - batch.indptr[b] == 1:
                    source.attend_single(batch, b)

    @T.macro
    def all_tasks(batch):
        T.attr(T.int32(0), "pragma_import_llvm", products.definitions)
        num_tasks = local((1,), "int32")
        num_tasks[0] = 0
        for b in T.serial(batch.num_sequences):
            num_tasks[0] = num_tasks[0] + _num_tasks(source, batch, b)
        if num_tasks[0] > 0:
            for task in T.parallel((num_tasks[0] + 1) // 2 * heads.num_kv):
                run_pair(batch, task // heads.num_kv, task % heads.num_kv, num_tasks[0])
        if source.attend_single is not None:
            attend_singles(batch)

    return all_tasks


def ragged_prefill_attention(heads: Heads, dtype: str, products: Products) -> tirx.PrimFunc:
    """New tokens over the new tokens of their own sequence.

    Q `(s, hq, d)`, K and V `(s, hkv, d)`, rotated -> `(s, hq, d)`, all of `dtype`, and log2 weights `(s, hq)`
    of float32.
    """
    all_tasks = _all_tasks(_Ragged(heads, products), products, dtype)

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
        Q = T.match_buffer(q, (num_rows, heads.num_q, heads.dim), dtype)
        Q_indptr = T.match_buffer(q_indptr, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        K = T.match_buffer(k, (num_keys, heads.num_kv, heads.dim), dtype)
        V = T.match_buffer(v, (num_keys, heads.num_kv, heads.dim), dtype)
        KV_indptr = T.match_buffer(kv_indptr, (batch + 1,), "int32", elem_offset=kv_indptr_offset)
        Q_position = T.match_buffer(q_rope_position, (num_rows,), "int32", elem_offset=q_position_offset)
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_start_offset)
        O = T.match_buffer(out, (num_rows, heads.num_q, heads.dim), dtype)
        L = T.match_buffer(lse, (num_rows, heads.num_q), "float32")
        scale = T.meta_var(sm_scale * T.float32(math.log2(math.e)))
        all_tasks(_Batch(Q, K, V, O, L, Q_indptr, KV_indptr, batch, causal, scale))

    return attention


def paged_prefill_attention(
    heads: Heads, dtype: str, products: Products, *, window: int | None = None
) -> tirx.PrimFunc:
    """New tokens over the pages of their sequence: what came before them, or, if `causal`, themselves too.

    Q `(s, hq, d)` rotated, pages, and each sequence's page table -> `(s, hq, d)`, all of `dtype`, and log2
    weights `(s, hq)` of float32. With a `window`, attention sinks and a window of what came before are seen
    (see `PageTable`); if `causal`, of the latter only as much as is no more than `window` - 1 tokens before
    each new token.
    """
    windowed = window is not None
    all_tasks = _all_tasks(_Paged(heads, dtype, products, window), products, dtype)

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
        Q = T.match_buffer(q, (num_rows, heads.num_q, heads.dim), dtype)
        Q_indptr = T.match_buffer(q_indptr, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        P = T.match_buffer(pages, (num_pages, 2, heads.num_kv, PAGE_SIZE, heads.dim), dtype)
        indptr = T.match_buffer(page_indptr, (batch + 1,), "int32", elem_offset=indptr_offset)
        listed = T.match_buffer(page_values, (num_listed,), "int32", elem_offset=values_offset)
        lengths = T.match_buffer(
            length_info, (3, batch) if windowed else (batch,), "int32", elem_offset=length_offset
        )
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_start_offset)
        Q_position = T.match_buffer(q_rope_position, (num_rows,), "int32", elem_offset=q_position_offset)
        O = T.match_buffer(out, (num_rows, heads.num_q, heads.dim), dtype)
        L = T.match_buffer(lse, (num_rows, heads.num_q), "float32")
        flat = T.decl_buffer((num_pages, 2, heads.num_kv, PAGE_SIZE * heads.dim), dtype, data=P.data)
        table = T.meta_var(PageTable(indptr, listed, lengths, windowed))
        scale = T.meta_var(sm_scale * T.float32(math.log2(math.e)))
        all_tasks(_Batch(Q, flat, flat, O, L, Q_indptr, table, batch, causal, scale))

    return attention
