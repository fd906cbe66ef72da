"""Takes queries, keys and values apart: queries are rotated, and keys and values go to their pages."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, match_pages
from mlc_serve.compiler.kernels.cpu.attention.rotary import copy_head_macro, head_rotation
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.row import Row
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.models.rope import Rope

_WRITING = 16  # writing a value to its page costs as much as rotating so many


def append_tokens(heads: Heads, rope: Rope | None, dtype: str, visible: Visible) -> tirx.PrimFunc:
    """QKV `(1, s, hq + 2 hkv, d)`, and the position and the slot of each token -> rotated Q `(s, hq, d)`, or
    `(s, 2 hq, d)` with the copy for anchors. The rotated K and V are written to their slots of the pages.
    Everything is of `dtype`. There is no V if values are a part of the keys.

    The sine and cosine of a position are computed once for all of its heads. Without `rope`, nothing is
    rotated. `positions` and `slots` may be longer than s.
    """
    append_row = _append_row_macro(heads, rope, dtype, visible)
    num_queries = heads.num_q * visible.copies
    row_cost = (num_queries + _WRITING * heads.num_kv) * heads.dim

    @T.prim_func(s_tir=True, private=True)
    def append(qkv: T.handle, positions: T.handle, slots: T.handle, pages: T.handle, q: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        num_rows = T.int64()
        num_places = T.int64()
        num_pages = T.int64()
        QKV = T.match_buffer(qkv, (1, num_rows, heads.num_new, heads.dim), dtype)
        position = T.match_buffer(positions, (num_places,), "int32")
        slot = T.match_buffer(slots, (num_places,), "int32")
        P = match_pages(pages, num_pages, heads, dtype)
        Q = T.match_buffer(q, (num_rows, num_queries, heads.dim), dtype)
        if num_rows * row_cost <= VALUES_PER_WAKING:
            for s in T.serial(num_rows):
                append_row(QKV, Q, P, s, position[s], slot[s])
        else:
            for s in T.parallel(num_rows):
                append_row(QKV, Q, P, s, position[s], slot[s])

    return append


def _append_row_macro(heads: Heads, rope: Rope | None, dtype: str, visible: Visible) -> Any:
    """The macro `append_row(QKV, Q, P, s, position, slot)` for one token."""
    last_seen_after_anchors = visible.anchors + (visible.window or 0) - 1
    rotation, copy = head_rotation(heads.dim, rope, dtype), copy_head_macro(heads.dim, dtype)
    first_key, first_value = heads.num_q, heads.num_q + heads.num_kv
    has_values = heads.latent is None

    def place_in_key(position: Any, i: Any) -> Any:
        return i * PAGE_SIZE + position if has_values else position * heads.dim + i

    @T.macro
    def append_key(QKV, P, s, h, slot, turn):
        with T.sblock("key"):
            T.reads()
            T.writes()
            key = local((heads.dim,), dtype)
            rotation.key(Row(QKV, (0, s, first_key + h)), Row(key, ()), turn)
            for i in T.serial(heads.dim):
                P[slot // PAGE_SIZE, 0, h, place_in_key(slot % PAGE_SIZE, i)] = key[i]

    @T.macro
    def append_value(QKV, P, s, h, slot):
        with T.sblock("value"):
            T.reads()
            T.writes()
            value = local((heads.dim,), dtype)
            copy(Row(QKV, (0, s, first_value + h)), Row(value, ()))
            for i in T.serial(heads.dim):
                P[slot // PAGE_SIZE, 1, h, slot % PAGE_SIZE * heads.dim + i] = value[i]

    @T.macro
    def append_row(QKV, Q, P, s, position, slot):
        with T.sblock("row"):
            T.reads()
            T.writes()
            turn = local((rotation.size,))
            place = local((1,), "int32")
            place[0] = slot
            rotation.start(position, turn)
            for h in T.serial(heads.num_q):
                rotation.query(Row(QKV, (0, s, h)), Row(Q, (s, h)), turn)
            for h in T.serial(heads.num_kv):
                append_key(QKV, P, s, h, place[0], turn)
                if has_values:
                    append_value(QKV, P, s, h, place[0])
            if visible.anchors > 0:
                rotation.start(T.min(position, last_seen_after_anchors), turn)
                for h in T.serial(heads.num_q):
                    rotation.query(Row(QKV, (0, s, h)), Row(Q, (s, heads.num_q + h)), turn)

    return append_row
