"""Attention of many new tokens: a decoder's over the pages of their sequences, which already hold them, and
an encoder's over each other.

This is online softmax in base 2, as in `decode`. A thread takes two tasks of `query_panels` at a time, one
from each end of the batch, because under a causal mask the work of a panel grows with its position.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads, by_head
from mlc_serve.compiler.kernels.cpu.attention.key_source import (
    Batch,
    KeySource,
    PagedKeys,
    RaggedKeys,
    convert_values_macro,
)
from mlc_serve.compiler.kernels.cpu.attention.page_table import match_page_table
from mlc_serve.compiler.kernels.cpu.attention.pages import match_int32, match_pages
from mlc_serve.compiler.kernels.cpu.attention.query_panels import (
    BLOCK,
    PANELS,
    Task,
    TaskState,
    add_macro,
    begin_macro,
    begin_sinks_macro,
    cap_macro,
    finish_macro,
    load_macro,
    mask_macro,
    score_macro,
    soften_macro,
)
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def _num_tasks(source: KeySource, batch: Batch, b: Any) -> Any:
    """How many tasks a sequence has: none if it is left to `attend_few`."""
    num_rows = batch.first_rows[b + 1] - batch.first_rows[b]
    task = PANELS * source.panels.queries
    tasks = tirx.floordiv(num_rows * source.heads.group + task - 1, task)
    return tirx.if_then_else(num_rows > source.most_few, tasks, 0)


def _attend_panel_macro(source: KeySource) -> Any:
    """The macro `attend_panel(state, r, first_key, span)`: panel r over the block from `first_key`."""
    heads, panels = source.heads, source.panels
    queries, step = panels.queries, panels.step
    num_words = heads.dim // panels.multiplier.per_word
    score = score_macro(num_words, source.key_strides, panels)
    cap, is_capped = cap_macro(source.scores, panels), source.scores.soft_cap is not None
    mask, soften, add = mask_macro(panels), soften_macro(panels), add_macro(heads.value_dim, panels)

    @T.macro
    def attend_panel(state, r, first_key, span):
        count = local((1,), "int32")
        factor = local((2, 16))
        count[0] = T.min(BLOCK, (state.limit[r, queries - 1] - first_key + step - 1) // step * step)
        if T.And(count[0] > 0, first_key + BLOCK > state.start[r, 0]):
            score(state, r, count[0])
            if is_capped:
                cap(state, r, count[0])
            if span.hides_some(
                first_key, first_key + count[0], state.start[r, queries - 1], state.limit[r, 0]
            ):
                mask(state, r, count[0], first_key, span)
            soften(state, r, count[0], factor)
            add(state, r, count[0], factor)

    return attend_panel


def _attend_task_macro(source: KeySource, dtype: str) -> Any:
    """The macro `attend_task(batch, state, b, task)`: the queries of one task over all blocks of keys that
    they see.
    """
    heads, panels = source.heads, source.panels
    queries, step = panels.queries, panels.step
    load = load_macro(heads, source.scores.query_factor, panels)
    begin = begin_macro(heads.value_dim, panels)
    begin_sinks = begin_sinks_macro(heads.group, source.sink, panels)
    finish = finish_macro(heads.group, heads.value_dim, dtype, panels)
    attend_panel, convert_values = _attend_panel_macro(source), convert_values_macro(source)

    @T.macro
    def attend_span(batch, state, b, task, first_head, span, num_panels):
        last = local((1,), "int32")
        for r in T.serial(num_panels[0]):
            load(batch.Q, first_head, state, task, r, span)
        last[0] = state.limit[num_panels[0] - 1, queries - 1]
        for block in T.serial(state.start[0, 0] // BLOCK, (last[0] + BLOCK - 1) // BLOCK):
            count = T.meta_var((T.min(BLOCK, last[0] - block * BLOCK) + step - 1) // step * step)
            source.convert_keys(batch, state, b, task.head, block * BLOCK, count)
            convert_values(batch, state, b, task.head, block * BLOCK, count)
            for r in T.serial(num_panels[0]):
                attend_panel(state, r, block * BLOCK, span)

    @T.macro
    def attend_task(batch, state, b, task):
        num_panels = local((1,), "int32")
        span = T.meta_var(source.span(batch, b, task.num_rows))
        num_panels[0] = T.min(PANELS, (task.num_rows * heads.group - 1) // queries + 1 - task.number * PANELS)
        for r in T.serial(num_panels[0]):
            begin(state, r)
            begin_sinks(batch, state, task, r)
        if source.num_anchors > 0:
            anchors = T.meta_var(span._replace(only_anchors=True))
            attend_span(batch, state, b, task, heads.num_q, anchors, num_panels)
        attend_span(batch, state, b, task, 0, span, num_panels)
        for r in T.serial(num_panels[0]):
            finish(batch.O, state, task, r)

    return attend_task


def _run_task_macro(source: KeySource, dtype: str) -> Any:
    """The macro `run_task(batch, state, index, h)`: the task of that number in the batch, for KV head h."""
    attend_task = _attend_task_macro(source, dtype)

    @T.macro
    def run_task(batch, state, index, h):
        number = local((1,), "int32")  # counted from the first task of sequence b
        number[0] = index
        for b in T.serial(batch.num_sequences):
            num_rows = T.meta_var(batch.first_rows[b + 1] - batch.first_rows[b])
            if T.And(number[0] >= 0, number[0] < _num_tasks(source, batch, b)):
                attend_task(batch, state, b, Task(batch.first_rows[b], num_rows, number[0], h))
            number[0] = number[0] - _num_tasks(source, batch, b)

    return run_task


def _run_both_ends_macro(source: KeySource, dtype: str) -> Any:
    """The macro `run_both_ends(batch, index, h, num_tasks)`: the task of that number, and the task of that
    number from the end, in memory that both use.
    """
    multiplier, num_queries = source.panels.multiplier, source.panels.queries
    value_dim = source.heads.value_dim
    num_words = source.heads.dim // multiplier.per_word
    run_task = _run_task_macro(source, dtype)

    @T.macro
    def run_both_ends(batch, index, h, num_tasks):
        with T.sblock("both_ends"):
            T.reads()
            T.writes()
            queries = T.sblock_alloc_buffer((PANELS, num_words, num_queries), multiplier.word)
            output = T.sblock_alloc_buffer((PANELS, value_dim, num_queries), "float32")
            limit = T.sblock_alloc_buffer((PANELS, num_queries), "int32")
            start = T.sblock_alloc_buffer((PANELS, num_queries), "int32")
            peak = T.sblock_alloc_buffer((PANELS, num_queries), "float32")
            weight = T.sblock_alloc_buffer((PANELS, num_queries), "float32")
            keys = T.sblock_alloc_buffer((BLOCK * num_words,), multiplier.word)
            values = T.sblock_alloc_buffer((BLOCK // multiplier.per_word, value_dim), multiplier.word)
            scores = T.sblock_alloc_buffer((BLOCK, num_queries), "float32")
            weights = T.sblock_alloc_buffer((BLOCK // multiplier.per_word, num_queries), multiplier.word)
            state = T.meta_var(
                TaskState(queries, output, limit, start, peak, weight, keys, values, scores, weights)
            )
            for end in T.serial(T.if_then_else(index * 2 + 1 == num_tasks, 1, 2)):
                run_task(batch, state, T.if_then_else(end == 0, index, num_tasks - 1 - index), h)

    return run_both_ends


def _all_tasks_macro(source: KeySource, dtype: str) -> Any:
    """The macro `all_tasks(batch)` for a whole batch."""
    num_heads, definitions = source.heads.num_kv, source.panels.multiplier.definitions
    run_both_ends = _run_both_ends_macro(source, dtype)

    @T.macro
    def all_tasks(batch):
        T.attr(T.int32(0), "pragma_import_llvm", definitions)
        num_tasks = local((1,), "int32")
        num_tasks[0] = 0
        for b in T.serial(batch.num_sequences):
            num_tasks[0] = num_tasks[0] + _num_tasks(source, batch, b)
        if num_tasks[0] > 0:
            for task in T.parallel((num_tasks[0] + 1) // 2 * num_heads):
                run_both_ends(batch, task // num_heads, task % num_heads, num_tasks[0])
        source.attend_few(batch)

    return all_tasks


def encoder_attention(heads: Heads, unit: FloatUnit) -> tirx.PrimFunc:
    """All tokens of a batch over all tokens of their own sequence, which is rows first_rows[b] to before
    first_rows[b + 1].

    Q, K and V `(s, h, d)` -> `(1, s, h d)`, all float32.
    """
    source = RaggedKeys(heads, Scores(heads.dim**-0.5), "float32", unit)
    all_tasks = _all_tasks_macro(source, "float32")

    @T.prim_func(s_tir=True, private=True)
    def attention(q: T.handle, k: T.handle, v: T.handle, first_rows: T.handle, out: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8, "tirx.is_scheduled": True})
        num_bounds = T.int32()
        num_rows = T.int32()
        Q = T.match_buffer(q, (num_rows, heads.num_q, heads.dim), "float32")
        K = T.match_buffer(k, (num_rows, heads.num_kv, heads.dim), "float32")
        V = T.match_buffer(v, (num_rows, heads.num_kv, heads.dim), "float32")
        bounds = match_int32(first_rows, num_bounds)
        whole = T.match_buffer(out, (1, num_rows, heads.num_q * heads.dim), "float32")
        O = by_head(whole, heads)
        all_tasks(Batch(Q, K, V, O, bounds, bounds, None, num_bounds - 1))

    return attention


def prefill_attention(
    heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """New tokens over the pages of their sequence, which hold the tokens before them and, as the last of its
    keys, the new tokens too.

    Rotated Q `(s, hq, d)`, the pages, the number of sequences `(1,)`, the first row and the page table of
    each, and the score of each query head's sink `(hq,)` -> `(1, s, hq dv)`. Q, pages and output are of
    `dtype`, sinks are float32. If there are anchors, Q is `(s, 2 hq, d)`, with the copy for them.
    """
    all_tasks = _all_tasks_macro(PagedKeys(heads, scores, visible, dtype, unit), dtype)

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        pages: T.handle,
        num_sequences: T.handle,
        first_rows: T.handle,
        first_pages: T.handle,
        listed: T.handle,
        lengths: T.handle,
        sinks: T.handle,
        out: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        num_rows = T.int32()
        num_pages = T.int64()
        Q = T.match_buffer(q, (num_rows, heads.num_q * visible.copies, heads.dim), dtype)
        P = match_pages(pages, num_pages, heads, dtype)
        batch = match_int32(num_sequences, 1)
        rows = match_int32(first_rows, T.int32())
        table = T.meta_var(match_page_table(first_pages, listed, lengths, visible))
        S = T.match_buffer(sinks, (heads.num_q,), "float32")
        whole = T.match_buffer(out, (1, num_rows, heads.num_q * heads.value_dim), dtype)
        O = by_head(whole, heads)
        all_tasks(Batch(Q, P, P, O, rows, table, S, batch[0]))

    return attention
