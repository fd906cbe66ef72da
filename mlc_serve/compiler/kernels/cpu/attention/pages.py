"""Writing, copying and reading the pages of the KV cache.

A page holds 16 positions of one KV head. V lies position by position, `[16, d]`. K lies dimension by
dimension, `[d, 16]`, so that the scores of a whole page come from adding up vectors of 16 positions, with no
sum across a register. TVM's cache owns the pages and moves them whole, so what is inside one is between these
kernels and those of `attention`.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.local import local

PAGE_SIZE = 16
_SERIAL_VALUES = 1 << 13  # no more than these are written in the time that it takes to wake a thread


def append_pages(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """K and V `(s, hkv, d)` of new tokens go to the slots `(s,)` of position_map; -1 writes nothing."""
    append_row = _append_row(num_kv_heads, head_dim)

    @T.prim_func(s_tir=True, private=True)
    def append(pages: T.handle, k_data: T.handle, v_data: T.handle, position_map: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int64()
        num_pages = T.int64()
        pages_offset = T.int64()
        slots_offset = T.int32()
        whole = T.match_buffer(
            pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), dtype, elem_offset=pages_offset
        )
        K = T.match_buffer(k_data, (num_rows, num_kv_heads, head_dim), dtype)
        V = T.match_buffer(v_data, (num_rows, num_kv_heads, head_dim), dtype)
        slots = T.match_buffer(position_map, (num_rows,), "int32", elem_offset=slots_offset)
        P = T.decl_buffer(
            (num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim),
            dtype,
            data=whole.data,
            elem_offset=pages_offset,
        )
        if num_rows * (num_kv_heads * head_dim) <= _SERIAL_VALUES:
            for s in T.serial(num_rows):
                append_row(P, K, V, slots, s)
        else:
            for s in T.parallel(num_rows):
                append_row(P, K, V, slots, s)

    return append


def _append_row(num_kv_heads: int, head_dim: int) -> Any:
    @T.macro
    def append_row(P, K, V, slots, s):
        page = local((1,), "int32")
        place = local((1,), "int32")
        page[0] = slots[s] // PAGE_SIZE
        place[0] = slots[s] % PAGE_SIZE
        if slots[s] != T.int32(-1):
            for h in T.serial(num_kv_heads):
                for i in T.serial(head_dim):
                    P[page[0], 0, h, i * PAGE_SIZE + place[0]] = K[s, h, i]
                for i in T.serial(head_dim):
                    P[page[0], 1, h, place[0] * head_dim + i] = V[s, h, i]

    return append_row


def copy_page(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Copy a page. `copy_length` positions are asked for; the others hold nothing yet, so the whole page is
    copied.
    """

    @T.prim_func(s_tir=True, private=True)
    def copy(pages: T.handle, source: T.int64, target: T.int64, copy_length: T.int64):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int64()
        pages_offset = T.int64()
        whole = T.match_buffer(
            pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), dtype, elem_offset=pages_offset
        )
        P = T.decl_buffer(
            (num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim),
            dtype,
            data=whole.data,
            elem_offset=pages_offset,
        )
        for part, h, i in T.grid(2, num_kv_heads, PAGE_SIZE * head_dim):
            P[target, part, h, i] = P[source, part, h, i]

    return copy


def read_pages(num_layers: int, num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """K and V `(layers, s, hkv, d)` of one layer at the slots `(s,)` of position_map, for inspection."""

    @T.prim_func(s_tir=True, private=True)
    def read(pages: T.handle, position_map: T.handle, k_data: T.handle, v_data: T.handle, layer: T.int64):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int64()
        num_pages = T.int64()
        pages_offset = T.int64()
        slots_offset = T.int64()
        whole = T.match_buffer(
            pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), dtype, elem_offset=pages_offset
        )
        slots = T.match_buffer(position_map, (num_rows,), "int32", elem_offset=slots_offset)
        K = T.match_buffer(k_data, (num_layers, num_rows, num_kv_heads, head_dim), dtype)
        V = T.match_buffer(v_data, (num_layers, num_rows, num_kv_heads, head_dim), dtype)
        P = T.decl_buffer(
            (num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim),
            dtype,
            data=whole.data,
            elem_offset=pages_offset,
        )
        for s, h, i in T.grid(num_rows, num_kv_heads, head_dim):
            K[layer, s, h, i] = P[slots[s] // PAGE_SIZE, 0, h, i * PAGE_SIZE + slots[s] % PAGE_SIZE]
            V[layer, s, h, i] = P[slots[s] // PAGE_SIZE, 1, h, slots[s] % PAGE_SIZE * head_dim + i]

    return read


def compact_pages(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Move the positions that a verified draft keeps to where they follow one another.

    copy_src_dst_pos `(2, n)` lists slots; sequence b's are [copy_length_indptr[b], copy_length_indptr[b +
    1]).
    """

    @T.prim_func(s_tir=True, private=True)
    def compact(pages: T.handle, copy_length_indptr: T.handle, copy_src_dst_pos: T.handle, batch: T.int32):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int64()
        num_moves = T.int32()
        pages_offset = T.int64()
        indptr_offset = T.int32()
        moves_offset = T.int32()
        whole = T.match_buffer(
            pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), dtype, elem_offset=pages_offset
        )
        indptr = T.match_buffer(copy_length_indptr, (batch + 1,), "int32", elem_offset=indptr_offset)
        moves = T.match_buffer(copy_src_dst_pos, (2, num_moves), "int32", elem_offset=moves_offset)
        P = T.decl_buffer(
            (num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim),
            dtype,
            data=whole.data,
            elem_offset=pages_offset,
        )
        for n in T.serial(indptr[batch]):
            for h in T.serial(num_kv_heads):
                for i in T.serial(head_dim):
                    P[moves[1, n] // PAGE_SIZE, 0, h, i * PAGE_SIZE + moves[1, n] % PAGE_SIZE] = P[
                        moves[0, n] // PAGE_SIZE, 0, h, i * PAGE_SIZE + moves[0, n] % PAGE_SIZE
                    ]
                    P[moves[1, n] // PAGE_SIZE, 1, h, moves[1, n] % PAGE_SIZE * head_dim + i] = P[
                        moves[0, n] // PAGE_SIZE, 1, h, moves[0, n] % PAGE_SIZE * head_dim + i
                    ]

    return compact
