"""Writing, copying and reading the pages of the KV cache.

A page holds 16 positions of one KV head. V lies position by position, `[16, d]`. K lies dimension by
dimension, `[d, 16]`, so that the scores of a whole page come from adding up vectors of 16 positions, with no
sum across a register. TVM's cache owns the pages and only moves them whole, so the order inside a page is
known to the kernels in this package alone. A slot is a place for one token: slot n is position n % 16 of page
n // 16.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING

PAGE_SIZE = 16
_SERIAL_VALUES = VALUES_PER_WAKING // 16  # writing a value to its page costs as much as rotating 16


def match_pages(handle: Any, num_pages: Any, num_kv_heads: int, head_dim: int, dtype: str) -> Any:
    """The pages `(pages, 2, hkv, 16, d)` behind a handle, as TVM's cache passes them."""
    shape = (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim)
    return T.match_buffer(handle, shape, dtype, elem_offset=T.int64())


def flat_pages(pages: Any) -> Any:
    """Pages as `(pages, 2, hkv, 16 d)`: K of a page at 0, V at 1, each in its own order."""
    num_pages, _, num_kv_heads, size, head_dim = pages.shape
    return T.decl_buffer(
        (num_pages, 2, num_kv_heads, size * head_dim),
        pages.dtype,
        data=pages.data,
        elem_offset=pages.elem_offset,
    )


def match_int32(handle: Any, length: Any, offset_dtype: str = "int32") -> Any:
    """The int32 vector behind a handle. TVM's cache passes parts of larger ones."""
    return T.match_buffer(handle, (length,), "int32", elem_offset=tirx.Var("offset", offset_dtype))


def append_pages(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Write K and V `(s, hkv, d)` of new tokens to the slots `(s,)` of position_map. Tokens with slot -1 are
    not written.
    """
    append_row = _append_row_macro(num_kv_heads, head_dim)

    @T.prim_func(s_tir=True, private=True)
    def append(pages: T.handle, k_data: T.handle, v_data: T.handle, position_map: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int64()
        num_pages = T.int64()
        whole = match_pages(pages, num_pages, num_kv_heads, head_dim, dtype)
        K = T.match_buffer(k_data, (num_rows, num_kv_heads, head_dim), dtype)
        V = T.match_buffer(v_data, (num_rows, num_kv_heads, head_dim), dtype)
        slots = match_int32(position_map, num_rows)
        P = flat_pages(whole)
        if num_rows * (num_kv_heads * head_dim) <= _SERIAL_VALUES:
            for s in T.serial(num_rows):
                append_row(P, K, V, slots, s)
        else:
            for s in T.parallel(num_rows):
                append_row(P, K, V, slots, s)

    return append


def _append_row_macro(num_kv_heads: int, head_dim: int) -> Any:
    """The macro `append_row(P, K, V, slots, s)`: write token s to its slot."""

    @T.macro
    def append_row(P, K, V, slots, s):
        page = local((1,), "int32")
        position = local((1,), "int32")
        page[0] = slots[s] // PAGE_SIZE
        position[0] = slots[s] % PAGE_SIZE
        if slots[s] != T.int32(-1):
            for h in T.serial(num_kv_heads):
                for i in T.serial(head_dim):
                    P[page[0], 0, h, i * PAGE_SIZE + position[0]] = K[s, h, i]
                for i in T.serial(head_dim):
                    P[page[0], 1, h, position[0] * head_dim + i] = V[s, h, i]

    return append_row


def copy_page(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Copy page `source` to page `target`. The cache asks for the first `copy_length` positions; the others
    hold nothing yet, so copying the whole page does no harm.
    """

    @T.prim_func(s_tir=True, private=True)
    def copy(pages: T.handle, source: T.int64, target: T.int64, copy_length: T.int64):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int64()
        whole = match_pages(pages, num_pages, num_kv_heads, head_dim, dtype)
        P = flat_pages(whole)
        for part, h, i in T.grid(2, num_kv_heads, PAGE_SIZE * head_dim):
            P[target, part, h, i] = P[source, part, h, i]

    return copy


def read_pages(num_layers: int, num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Read K and V `(layers, s, hkv, d)` of one layer at the slots `(s,)` of position_map, for inspection."""

    @T.prim_func(s_tir=True, private=True)
    def read(pages: T.handle, position_map: T.handle, k_data: T.handle, v_data: T.handle, layer: T.int64):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int64()
        num_pages = T.int64()
        whole = match_pages(pages, num_pages, num_kv_heads, head_dim, dtype)
        slots = match_int32(position_map, num_rows, "int64")
        K = T.match_buffer(k_data, (num_layers, num_rows, num_kv_heads, head_dim), dtype)
        V = T.match_buffer(v_data, (num_layers, num_rows, num_kv_heads, head_dim), dtype)
        P = flat_pages(whole)
        for s, h, i in T.grid(num_rows, num_kv_heads, head_dim):
            K[layer, s, h, i] = P[slots[s] // PAGE_SIZE, 0, h, i * PAGE_SIZE + slots[s] % PAGE_SIZE]
            V[layer, s, h, i] = P[slots[s] // PAGE_SIZE, 1, h, slots[s] % PAGE_SIZE * head_dim + i]

    return read


def compact_pages(num_kv_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Move the kept tokens of a verified draft to slots that follow one another.

    copy_src_dst_pos `(2, n)` lists from which slot to which; sequence b's moves are those from
    copy_length_indptr[b] to before copy_length_indptr[b + 1].
    """

    @T.prim_func(s_tir=True, private=True)
    def compact(pages: T.handle, copy_length_indptr: T.handle, copy_src_dst_pos: T.handle, batch: T.int32):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int64()
        num_moves = T.int32()
        moves_offset = T.int32()
        whole = match_pages(pages, num_pages, num_kv_heads, head_dim, dtype)
        indptr = match_int32(copy_length_indptr, batch + 1)
        moves = T.match_buffer(copy_src_dst_pos, (2, num_moves), "int32", elem_offset=moves_offset)
        P = flat_pages(whole)
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
