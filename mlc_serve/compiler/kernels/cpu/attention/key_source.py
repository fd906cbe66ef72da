"""Where the keys and values of a prefill lie, in pages or with the new tokens, and which of them a query
sees.

Either source converts blocks of them to words of `Multiplier`. A sequence with a single new token is not
worth a panel; the macro `attend_single` computes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.page_run import PageRuns, TokenState
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.query_panels import BLOCK, Panels, panels_for, row_words
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector, widened


class Span(NamedTuple):
    """Which of a sequence's keys its rows see. With a `window`, the page table says which keys are sinks and
    where the sequence's window begins, and under a causal mask the rows follow the keys, each with a window
    of its own.
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
        """The first key that is not too early for a row. Sinks are never too early."""
        if not self.window:
            return tirx.const(0, "int32")
        before = tirx.max(self.window - 1 - row, 0)
        own_start = tirx.if_then_else(self.causal > 0, self.num_keys - before, 0)
        return tirx.max(self.window_start, own_start)

    def sees(self, key: Any, start: Any, limit: Any) -> Any:
        """Whether a row with this start and limit sees a key."""
        if not self.window:
            return key < limit
        return tirx.And(key < limit, tirx.Or(key >= start, key < self.sinks))

    def hides_some(self, end: Any, least_limit: Any) -> Any:
        """Whether there may be a row that does not see one of the keys before `end`."""
        return tirx.const(True, "bool") if self.window else end > least_limit

    def sees_some(self, first: Any, end: Any) -> Any:
        """Whether there may be a row that sees one of the keys from `first` to before `end`."""
        if not self.window:
            return tirx.const(True, "bool")
        return tirx.Or(end > self.window_start, first < self.sinks)


class Batch(NamedTuple):
    """The kernel's tensors."""

    Q: Any
    K: Any  # pages, or the keys of the new tokens
    V: Any  # pages, or the values of the new tokens
    O: Any
    L: Any
    indptr: Any  # the first row of each sequence
    keys: Any  # the page table, or the first key of each sequence
    num_sequences: Any
    causal: Any
    scale: Any


class KeySource(Protocol):
    """What the prefill kernels need to know about keys and values."""

    heads: Heads
    panels: Panels
    key_strides: tuple[int, int]  # of keys and of a key's words, where `convert_keys` puts them
    convert_keys: Any  # the macro (batch, state, b, h, first_key, count)
    attend_single: Any  # the macro (batch, b) for a sequence with one row; None if panels compute it
    parallel_singles: int  # the number of single rows from which on waking threads is worth it

    def num_keys(self, batch: Batch, b: Any) -> Any:
        """How many keys sequence b has."""

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        """Which of them its rows see."""

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        """The values of a key in some columns."""


class RaggedKeys:
    """Implements KeySource for keys and values `(s, hkv, d)` of new tokens."""

    def __init__(self, heads: Heads, dtype: str, unit: FloatUnit) -> None:
        self.heads, self.panels = heads, panels_for(dtype, unit)
        self.key_strides = (heads.dim // self.panels.multiplier.per_word, 1)
        self.convert_keys = _convert_ragged_keys_macro(self)
        self.attend_single = _copy_single_macro(heads)
        self.parallel_singles = VALUES_PER_WAKING // 128 // heads.num_q

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys[b + 1] - batch.keys[b]

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        return Span(self.num_keys(batch, b), num_rows, batch.causal, None, None, None)

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return batch.V[batch.keys[b] + key, h, columns]


class PagedKeys:
    """Implements KeySource for keys and values in pages, in the order that `pages` describes."""

    def __init__(self, heads: Heads, dtype: str, unit: FloatUnit, window: int | None) -> None:
        self.heads, self.panels, self.window = heads, panels_for(dtype, unit), window
        self.key_strides = (1, BLOCK)
        self.convert_keys = _convert_paged_keys_macro(self)
        self.attend_single = None if window else _decode_single_macro(heads, dtype, unit)
        self.parallel_singles = 2

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys.num_keys(b)

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        table = batch.keys
        sinks, start = (table.lengths[2, b], table.lengths[1, b]) if self.window else (None, None)
        return Span(table.num_keys(b), num_rows, batch.causal, sinks, start, self.window)

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        page = batch.keys.page(b, tirx.floordiv(key, PAGE_SIZE))
        return batch.V[page, 1, h, tirx.floormod(key, PAGE_SIZE) * self.heads.dim + columns]


def _convert_ragged_keys_macro(source: RaggedKeys) -> Any:
    """The macro `convert_keys`: key after key. Past the last key, that key is repeated."""
    multiplier = source.panels.multiplier
    num_words = source.heads.dim // multiplier.per_word
    step = lanes(num_words)

    @T.macro
    def convert_keys(batch, state, b, h, first_key, count):
        for t in T.serial(count):
            row = T.meta_var(batch.keys[b] + T.min(first_key + t, source.num_keys(batch, b) - 1))
            for i in T.unroll(num_words // step):
                columns = T.meta_var(vector(i * step * multiplier.per_word, step * multiplier.per_word))
                state.keys[vector(t * num_words + i * step, step)] = row_words(
                    multiplier, widened(batch.K[row, h, columns], step * multiplier.per_word), step
                )

    return convert_keys


def _convert_paged_keys_macro(source: PagedKeys) -> Any:
    """The macro `convert_keys`: word after word, each of all keys of the block, as pages have them."""
    multiplier = source.panels.multiplier
    per_word = multiplier.per_word
    num_words = source.heads.dim // per_word

    def words(batch: Batch, page: Any, h: Any, i: Any) -> Any:
        rows = [
            batch.K[page, 0, h, vector((i * per_word + j) * PAGE_SIZE, PAGE_SIZE)] for j in range(per_word)
        ]
        return multiplier.pack([widened(row, PAGE_SIZE) for row in rows], PAGE_SIZE)

    @T.macro
    def convert_keys(batch, state, b, h, first_key, count):
        for p in T.serial((count + PAGE_SIZE - 1) // PAGE_SIZE):
            page = local((1,), "int32")
            page[0] = batch.keys.page(b, first_key // PAGE_SIZE + p)
            for i in T.serial(num_words):
                state.keys[vector(i * BLOCK + p * PAGE_SIZE, PAGE_SIZE)] = words(batch, page[0], h, i)

    return convert_keys


def _copy_single_macro(heads: Heads) -> Any:
    """The macro `attend_single` of a new token over itself alone: its value, weighed by its only score."""

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

    return attend_single


def _decode_single_macro(heads: Heads, dtype: str, unit: FloatUnit) -> Any:
    """The macro `attend_single` of a new token over the pages of its sequence, as in a decode."""
    runs = PageRuns(heads, unit.sums)
    count = runs.pages_per_run

    @T.macro
    def attend_single(batch, b):
        with T.sblock("single"):
            T.reads()
            T.writes()
            queries = local((heads.num_q, heads.dim))
            output = local((heads.num_q, heads.dim))
            peak = local((heads.num_q,))
            weight = local((heads.num_q, PAGE_SIZE))
            state = T.meta_var(TokenState(queries, output, peak, weight))
            num_pages = T.meta_var(batch.keys.num_pages(b))
            last_listed = T.meta_var(batch.keys.indptr[batch.num_sequences] - 1)
            runs.begin(batch.Q, state, batch.indptr[b], batch.scale)
            for run in T.serial((num_pages + count - 1) // count):
                runs.attend(batch.K, batch.keys, state, b, run * count, num_pages, last_listed)
            runs.finish(batch.O, batch.L, state, batch.indptr[b], dtype)

    return attend_single


def convert_values_macro(source: KeySource) -> Any:
    """The macro `convert_values(batch, state, b, h, first_key, count)`: the values of a block's keys. Past
    the last key, that key's are repeated.
    """
    multiplier, head_dim = source.panels.multiplier, source.heads.dim
    per_word = multiplier.per_word
    step = lanes(head_dim)

    def words(batch: Batch, b: Any, h: Any, key: Any, last: Any, column: Any) -> Any:
        rows = [
            source.value(batch, b, h, tirx.min(key + j, last), vector(column, step)) for j in range(per_word)
        ]
        return multiplier.pack([widened(row, step) for row in rows], step)

    @T.macro
    def convert_values(batch, state, b, h, first_key, count):
        for t in T.serial(count // per_word):
            for i in T.unroll(head_dim // step):
                state.values[t, vector(i * step, step)] = words(
                    batch, b, h, first_key + t * per_word, source.num_keys(batch, b) - 1, i * step
                )

    return convert_values
