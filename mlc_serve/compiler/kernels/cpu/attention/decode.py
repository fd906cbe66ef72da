"""Attention of one new token a sequence over the pages of that sequence.

The pages of all sequences, one after another, are cut into slots of equal length, which threads take. So a
batch of any lengths is balanced, and a single long sequence is spread over all threads. A slot writes the
results of sequences that it holds whole; of the two at its ends it keeps partial results, which are joined
when all slots are done.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.page_run import MASKED, AttentionState, PageAttention
from mlc_serve.compiler.kernels.cpu.attention.page_table import PageTable
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.local import local

_MAX_SLOTS = 64
_FIRST_SLOTS = 4
_FIRST_SLOT_VALUES = 1 << 14  # of keys: few more are met in the time that it takes to wake a thread
_SLOT_VALUES = 1 << 16  # of keys, where there are more slots


class _Cut(NamedTuple):
    """How the `work` pages of all sequences are cut into `slots`."""

    work: Any
    slots: Any

    def bound(self, slot: Any) -> Any:
        """The first page of a slot."""
        return slot * self.work // self.slots

    def slot_of(self, position: Any) -> Any:
        """The slot that a page is in."""
        return ((position + 1) * self.slots + self.work - 1) // self.work - 1


class _Partial(NamedTuple):
    """Results over parts of a sequence: two for each slot, at its beginning and at its end."""

    output: Any  # (2 slots, hq, d), not divided by their weight
    peak: Any  # (2 slots, hq)
    weight: Any  # (2 slots, hq, 16)


def _num_slots(work: Any, key_size: int) -> Any:
    """A power of two: threads, of which there are mostly an even number, then get as many each. It is one,
    or four at least, because most processors have four cores; and more only for more work, because what is
    cut must be joined.
    """
    page_values = PAGE_SIZE * key_size
    first, least = (max(1, values // page_values) for values in (_FIRST_SLOT_VALUES, _SLOT_VALUES))
    slots: Any = tirx.Select(work >= _FIRST_SLOTS * first, _FIRST_SLOTS, tirx.const(1, "int32"))
    for exponent in range(_FIRST_SLOTS.bit_length(), _MAX_SLOTS.bit_length()):
        slots = tirx.Select(work >= least << exponent, tirx.const(1 << exponent, "int32"), slots)
    return slots


def _run_slot(pages: PageAttention, dtype: str) -> Any:
    """The macro that computes what lies in one slot."""
    num_heads, head_dim, count = pages.num_q_heads, pages.head_dim, pages.pages_per_block

    @T.macro
    def keep(state, partial, place):
        for g in T.serial(num_heads):
            partial.peak[place, g] = state.peak[g]
            for t in T.vectorized(PAGE_SIZE):
                partial.weight[place, g, t] = state.weight[g, t]
            for i in T.serial(head_dim):
                partial.output[place, g, i] = state.output[g, i]

    @T.macro
    def attend_part(tensors, table, partial, cut, slot, b, last_listed):
        with T.sblock("part"):
            T.reads()
            T.writes()
            queries = local((num_heads, head_dim))
            output = local((num_heads, head_dim))
            peak = local((num_heads,))
            weight = local((num_heads, PAGE_SIZE))
            state = T.meta_var(AttentionState(queries, output, peak, weight))
            start = T.meta_var(table.indptr[b])
            first = local((1,), "int32")
            end = local((1,), "int32")
            first[0] = T.max(cut.bound(slot) - start, 0)
            end[0] = T.min(cut.bound(slot + 1) - start, table.num_pages(b))
            if first[0] < end[0]:
                pages.begin(tensors.Q, state, b, tensors.scale)
                for block in T.serial((end[0] - first[0] + count - 1) // count):
                    page = T.meta_var(first[0] + block * count)
                    if table.sees_some(b, page * PAGE_SIZE, (page + count) * PAGE_SIZE):
                        pages.attend(tensors.P, table, state, b, page, end[0], last_listed)
                if first[0] > 0:
                    keep(state, partial, slot * 2)
                elif end[0] < table.num_pages(b):
                    keep(state, partial, slot * 2 + 1)
                else:
                    pages.finish(tensors.O, tensors.L, state, b, dtype)

    @T.macro
    def run_slot(tensors, table, partial, cut, slot, batch):
        for b in T.serial(batch):
            if T.And(table.indptr[b] < cut.bound(slot + 1), table.indptr[b + 1] > cut.bound(slot)):
                attend_part(tensors, table, partial, cut, slot, b, table.indptr[batch] - 1)

    return run_slot


def _join(num_heads: int, head_dim: int, dtype: str) -> Any:
    """The macro that writes what no slot could write alone: sequences in several slots, and empty ones."""
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
            for slot in T.serial(last - first):
                peak[0] = T.max(peak[0], partial.peak[(first + 1 + slot) * 2, query])
            total[0] = T.float32(0)
            for i in T.vectorized(head_dim):
                output[i] = T.float32(0)
            for slot in T.serial(last - first + 1):
                place = T.meta_var((first + slot) * 2 + T.if_then_else(slot == 0, 1, 0))
                factor[0] = exp2(partial.peak[place, query] - peak[0])
                for t in T.serial(PAGE_SIZE):
                    total[0] = total[0] + partial.weight[place, query, t] * factor[0]
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        output[i * step + lane] = (
                            output[i * step + lane]
                            + partial.output[place, query, i * step + lane] * factor[0]
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
    def join(tensors, table, partial, cut, b):
        first = T.meta_var(cut.slot_of(table.indptr[b]))
        last = T.meta_var(cut.slot_of(table.indptr[b + 1] - 1))
        if table.num_pages(b) == 0:
            for query in T.serial(num_heads):
                clear(tensors, b, query)
        elif first < last:
            for query in T.serial(num_heads):
                join_parts(tensors, partial, b, query, first, last)

    return join


class _Tensors(NamedTuple):
    Q: Any
    P: Any
    O: Any
    L: Any
    scale: Any  # of scores, and log2(e), because softmax is in base 2


def _all_slots(shape: tuple[int, int, int], dtype: str, unit: FloatUnit) -> Any:
    num_heads, num_kv_heads, head_dim = shape
    run_slot = _run_slot(PageAttention(*shape, unit.sums), dtype)
    join = _join(num_heads, head_dim, dtype)

    @T.macro
    def all_slots(tensors, table, batch):
        with T.sblock("slots"):
            T.reads()
            T.writes()
            output = T.sblock_alloc_buffer((2 * _MAX_SLOTS, num_heads, head_dim), "float32")
            peak = T.sblock_alloc_buffer((2 * _MAX_SLOTS, num_heads), "float32")
            weight = T.sblock_alloc_buffer((2 * _MAX_SLOTS, num_heads, PAGE_SIZE), "float32")
            partial = T.meta_var(_Partial(output, peak, weight))
            work = local((1,), "int32")
            slots = local((1,), "int32")
            work[0] = table.indptr[batch]
            slots[0] = _num_slots(work[0], num_kv_heads * head_dim)
            cut = T.meta_var(_Cut(work[0], slots[0]))
            if slots[0] == 1:
                run_slot(tensors, table, partial, cut, 0, batch)
            else:
                for slot in T.parallel(slots[0]):
                    run_slot(tensors, table, partial, cut, slot, batch)
            for b in T.serial(batch):
                join(tensors, table, partial, cut, b)

    return all_slots


def decode_attention(
    num_q_heads: int, num_kv_heads: int, head_dim: int, dtype: str, unit: FloatUnit, *, windowed: bool = False
) -> tirx.PrimFunc:
    """Q `(b, hq, d)`, pages, and each sequence's page table -> `(b, hq, d)` and log2 weights `(b, hq)`.

    The parameters are those that TVM's paged KV cache passes; Q and K arrive rotated. Q, pages and output are
    of `dtype`, log2 weights float32. With `windowed`, only attention sinks and a window of each sequence are
    seen: see `PageTable`.
    """
    all_slots = _all_slots((num_q_heads, num_kv_heads, head_dim), dtype, unit)

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
        num_listed = T.int32()
        indptr_offset = T.int32()
        values_offset = T.int32()
        length_offset = T.int32()
        k_offset = T.int32()
        q_offset = T.int32()
        Q = T.match_buffer(q, (batch, num_q_heads, head_dim), dtype)
        P = T.match_buffer(pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), dtype)
        indptr = T.match_buffer(page_indptr, (batch + 1,), "int32", elem_offset=indptr_offset)
        listed = T.match_buffer(page_values, (num_listed,), "int32", elem_offset=values_offset)
        lengths = T.match_buffer(
            length_info, (3, batch) if windowed else (batch,), "int32", elem_offset=length_offset
        )
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_offset)
        Q_position = T.match_buffer(q_rope_position, (batch,), "int32", elem_offset=q_offset)
        O = T.match_buffer(out, (batch, num_q_heads, head_dim), dtype)
        L = T.match_buffer(lse, (batch, num_q_heads), "float32")
        flat = T.decl_buffer((num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim), dtype, data=P.data)
        table = T.meta_var(PageTable(indptr, listed, lengths, windowed))
        tensors = T.meta_var(_Tensors(Q, flat, O, L, sm_scale * T.float32(math.log2(math.e))))
        all_slots(tensors, table, batch)

    return attention
