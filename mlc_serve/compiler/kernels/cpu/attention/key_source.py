"""Which keys and values the queries of a prefill meet, and where they lie: in pages, or with new tokens.

Both kinds convert blocks of them to words of `Products`, and know which of a sequence's rows see which keys.
A sequence with a single new token is no work for tiles: `attend_single` is the macro for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.page_run import AttentionState, PageAttention
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.query_panels import BLOCK, row_words, tiles_for, vector, widened
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.local import local


class Heads(NamedTuple):
    """The shape of attention."""

    num_q: int
    num_kv: int
    dim: int

    @property
    def group(self) -> int:
        """Query heads to a KV head."""
        return self.num_q // self.num_kv


class Span(NamedTuple):
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


class Batch(NamedTuple):
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


class RaggedKeys:
    """Keys and values `(s, hkv, d)` of new tokens."""

    def __init__(self, heads: Heads, dtype: str, unit: FloatUnit) -> None:
        self.heads, self.tiles = heads, tiles_for(dtype, unit)
        products = self.tiles.products
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

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys[b + 1] - batch.keys[b]

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        return Span(self.num_keys(batch, b), num_rows, batch.causal, None, None, None)

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return batch.V[batch.keys[b] + key, h, columns]


class PagedKeys:
    """Keys and values in pages: see `pages`."""

    def __init__(self, heads: Heads, dtype: str, unit: FloatUnit, window: int | None) -> None:
        self.heads, self.tiles, self.window = heads, tiles_for(dtype, unit), window
        products = self.tiles.products
        self.attend_single = None if window else _attend_single(heads, dtype, unit)
        self.parallel_singles = 2
        num_words, pair = heads.dim // products.pair, products.pair
        self.key_strides = (1, BLOCK)

        def words(batch: Batch, page: Any, h: Any, i: Any) -> Any:
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

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys.num_keys(b)

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        table = batch.keys
        sinks, start = (table.lengths[2, b], table.lengths[1, b]) if self.window else (None, None)
        return Span(table.num_keys(b), num_rows, batch.causal, sinks, start, self.window)

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        page = batch.keys.page(b, tirx.floordiv(key, PAGE_SIZE))
        return batch.V[page, 1, h, tirx.floormod(key, PAGE_SIZE) * self.heads.dim + columns]


def _attend_single(heads: Heads, dtype: str, unit: FloatUnit) -> Any:
    """The macro for a sequence with one new token, which is a decode."""
    pages = PageAttention(*heads, unit.sums)
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


def convert_values_of(source: Any) -> Any:
    """The macro that converts the values of a block; past the last key, that one is repeated."""
    products, head_dim = source.tiles.products, source.heads.dim
    pair = products.pair
    step = lanes(head_dim)

    def words(batch: Batch, b: Any, h: Any, key: Any, last: Any, column: Any) -> Any:
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
