"""Where the keys and values of a prefill lie, in pages or with the new tokens, and which of them a query
sees.

Either source converts blocks of them to words of `Multiplier`. Sequences with few new tokens are not worth a
panel; the macro `attend_few` computes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.few_rows import MOST_FEW, FewRows
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.query_panels import BLOCK, Panels, panels_for, row_words
from mlc_serve.compiler.kernels.cpu.attention.row_attention import RowTensors, row_attention_macro
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED, Scores, sink_score
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector, widened


class Span(NamedTuple):
    """Which of a sequence's keys its rows see. If they are causal, the rows are the last of the keys, and see
    none after their own. The keys are those that are `visible` through the window, or with `only_anchors` the
    anchors.
    """

    num_keys: Any
    num_rows: Any
    is_causal: bool
    visible: Visible
    only_anchors: bool = False

    @property
    def is_windowed(self) -> bool:
        """Whether a row may not see the first keys."""
        return self.visible.window is not None and not self.only_anchors

    def limit(self, row: Any) -> Any:
        """The first key that is too late for a row."""
        end = self.num_keys - self.num_rows + row + 1 if self.is_causal else self.num_keys
        return self.visible.num_anchors(end) if self.only_anchors else end

    def start(self, row: Any) -> Any:
        """The first key that is not too early for a row."""
        return tirx.const(0, "int32") if self.only_anchors else self.visible.start(self.limit(row))

    def sees(self, key: Any, start: Any, limit: Any) -> Any:
        """Whether a row with this start and limit sees a key."""
        return tirx.And(key < limit, key >= start) if self.is_windowed else key < limit

    def hides_some(self, first: Any, end: Any, last_start: Any, least_limit: Any) -> Any:
        """Whether a row with a start up to `last_start`, and a limit from `least_limit`, may not see one of
        the keys from `first` to before `end`.
        """
        return tirx.Or(end > least_limit, first < last_start) if self.is_windowed else end > least_limit


class Batch(NamedTuple):
    """The kernel's tensors."""

    Q: Any
    K: Any  # pages, or the keys of the new tokens
    V: Any  # pages, or the values of the new tokens
    O: Any
    first_rows: Any  # of each sequence
    keys: Any  # the page table, or the first key of each sequence
    sinks: Any  # the score of each head's sink, or None
    num_sequences: Any


class KeySource(Protocol):
    """What the prefill kernels need to know about keys and values."""

    heads: Heads
    scores: Scores
    panels: Panels
    num_anchors: int  # of the first keys of a sequence
    key_strides: tuple[int, int]  # of keys and of a key's words, where `convert_keys` puts them
    convert_keys: Any  # the macro (batch, state, b, h, first_key, count)
    most_few: int  # rows of a sequence that is left to `attend_few`
    attend_few: Any  # the macro (batch) for all sequences with so few rows

    def num_keys(self, batch: Batch, b: Any) -> Any:
        """How many keys sequence b has."""

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        """Which of them its rows see."""

    def sink(self, batch: Batch, head: Any) -> Any:
        """The score in base 2 of a query head's sink."""

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        """A key's value in some columns."""


class RaggedKeys:
    """Implements KeySource for keys and values `(s, hkv, d)` of an encoder's tokens, which see all of their
    sequence.
    """

    num_anchors = 0

    def __init__(self, heads: Heads, scores: Scores, dtype: str, unit: FloatUnit) -> None:
        self.heads, self.scores, self.panels = heads, scores, panels_for(dtype, unit)
        self.key_strides = (heads.dim // self.panels.multiplier.per_word, 1)
        self.convert_keys = _convert_key_rows_macro(self)
        self.most_few, self.attend_few = 1, _copy_singles_macro(heads)

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys[b + 1] - batch.keys[b]

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        return Span(self.num_keys(batch, b), num_rows, is_causal=False, visible=Visible())

    def sink(self, batch: Batch, head: Any) -> Any:  # noqa: ARG002  encoders have none
        return tirx.const(MASKED, "float32")

    def key(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return batch.K[batch.keys[b] + key, h, columns]

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return batch.V[batch.keys[b] + key, h, columns]


class PagedKeys:
    """Implements KeySource for keys and values in pages, in the order that `pages` describes. New tokens are
    the last of the keys, and see themselves and those before them.
    """

    def __init__(self, heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit) -> None:
        self.heads, self.scores, self.panels = heads, scores, panels_for(dtype, unit)
        if heads.latent is None:
            self.key_strides = (1, BLOCK)
            self.convert_keys = _convert_paged_keys_macro(self)
        else:
            self.key_strides = (heads.dim // self.panels.multiplier.per_word, 1)
            self.convert_keys = _convert_key_rows_macro(self)
        self.most_few = MOST_FEW
        self.attend_few = _few_rows_macro(heads, scores, visible, dtype, unit)
        self.num_anchors = visible.anchors
        self._visible = visible

    def num_keys(self, batch: Batch, b: Any) -> Any:
        return batch.keys.num_keys(b)

    def span(self, batch: Batch, b: Any, num_rows: Any) -> Span:
        return Span(self.num_keys(batch, b), num_rows, is_causal=True, visible=self._visible)

    def sink(self, batch: Batch, head: Any) -> Any:
        return sink_score(batch.sinks, head)

    def key(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        """A key in some columns, in pages that have it position by position."""
        return self._row(batch, b, 0, h, key, columns)

    def value(self, batch: Batch, b: Any, h: Any, key: Any, columns: Any) -> Any:
        return self._row(batch, b, self.heads.value_part, h, key, self.heads.first_value + columns)

    def _row(self, batch: Batch, b: Any, part: int, h: Any, key: Any, columns: Any) -> Any:
        page = batch.keys.page(b, tirx.floordiv(key, PAGE_SIZE)).astype("int64")
        return batch.V[page, part, h, tirx.floormod(key, PAGE_SIZE) * self.heads.dim + columns]


def _convert_key_rows_macro(source: RaggedKeys | PagedKeys) -> Any:
    """The macro `convert_keys`: key after key. Past the last key, that key is repeated."""
    multiplier = source.panels.multiplier
    num_words = source.heads.dim // multiplier.per_word
    step = lanes(num_words)

    @T.macro
    def convert_keys(batch, state, b, h, first_key, count):
        for t in T.serial(count):
            key = T.meta_var(T.min(first_key + t, source.num_keys(batch, b) - 1))
            for i in T.unroll(num_words // step):
                columns = T.meta_var(vector(i * step * multiplier.per_word, step * multiplier.per_word))
                state.keys[vector(t * num_words + i * step, step)] = row_words(
                    multiplier,
                    widened(source.key(batch, b, h, key, columns), step * multiplier.per_word),
                    step,
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
            page = local((1,), "int64")
            page[0] = T.Cast("int64", batch.keys.page(b, first_key // PAGE_SIZE + p))
            for i in T.serial(num_words):
                state.keys[vector(i * BLOCK + p * PAGE_SIZE, PAGE_SIZE)] = words(batch, page[0], h, i)

    return convert_keys


def _copy_singles_macro(heads: Heads) -> Any:
    """The macro `attend_few` of new tokens that are alone in their sequences: the result is their value."""
    step = lanes(heads.dim)
    parallel_from = VALUES_PER_WAKING // 128 // heads.num_q

    @T.macro
    def copy_single(batch, b):
        if batch.first_rows[b + 1] - batch.first_rows[b] == 1:
            for h in T.serial(heads.num_q):
                for i in T.serial(heads.dim // step):
                    for lane in T.vectorized(step):
                        batch.O[batch.first_rows[b], h, i * step + lane] = batch.V[
                            batch.keys[b], h // heads.group, i * step + lane
                        ]

    @T.macro
    def attend_few(batch):
        num_singles = local((1,), "int32")
        num_singles[0] = 0
        for b in T.serial(batch.num_sequences):
            num_singles[0] = num_singles[0] + T.if_then_else(
                batch.first_rows[b + 1] - batch.first_rows[b] == 1, 1, 0
            )
        if num_singles[0] >= parallel_from:
            for b in T.parallel(batch.num_sequences):
                copy_single(batch, b)
        else:
            for b in T.serial(batch.num_sequences):
                copy_single(batch, b)

    return attend_few


def _few_rows_macro(heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit) -> Any:
    """The macro `attend_few` of new tokens over the pages of their sequences."""
    attend_rows = row_attention_macro(heads, scores, visible, dtype, unit, MOST_FEW)

    @T.macro
    def attend_few(batch):
        attend_rows(
            RowTensors(batch.Q, batch.K, batch.sinks, batch.O),
            batch.keys,
            FewRows(MOST_FEW, batch.first_rows),
            batch.num_sequences,
        )

    return attend_few


def convert_values_macro(source: KeySource) -> Any:
    """The macro `convert_values(batch, state, b, h, first_key, count)`: the values of a block's keys. Past
    the last key, that key's are repeated.
    """
    multiplier, value_dim = source.panels.multiplier, source.heads.value_dim
    per_word = multiplier.per_word
    step = lanes(value_dim)

    def words(batch: Batch, b: Any, h: Any, key: Any, last: Any, column: Any) -> Any:
        rows = [
            source.value(batch, b, h, tirx.min(key + j, last), vector(column, step)) for j in range(per_word)
        ]
        return multiplier.pack([widened(row, step) for row in rows], step)

    @T.macro
    def convert_values(batch, state, b, h, first_key, count):
        for t in T.serial(count // per_word):
            for i in T.unroll(value_dim // step):
                state.values[t, vector(i * step, step)] = words(
                    batch, b, h, first_key + t * per_word, source.num_keys(batch, b) - 1, i * step
                )

    return convert_values
