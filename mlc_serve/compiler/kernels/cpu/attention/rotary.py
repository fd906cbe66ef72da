"""Rotary position embedding, fused with splitting the QKV product into its three parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.sine import cosine, part_of_a_turn, sine
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector
from mlc_serve.models.rope import Rope


def split_rotary(num_q_heads: int, num_kv_heads: int, head_dim: int, rope: Rope, dtype: str) -> tirx.PrimFunc:
    """QKV `(s, hq + 2 hkv, d)`, positions `(s,)` -> rotated Q and K, and V, all of `dtype`.

    The sine and cosine of a position are computed once for all of its heads.
    """
    num_heads = num_q_heads + 2 * num_kv_heads
    turns_a_step = rope.frequencies(head_dim) / (2 * math.pi)
    split_row = _split_row_macro(num_q_heads, num_kv_heads, head_dim, turns_a_step, dtype)

    @T.prim_func(s_tir=True, private=True)
    def rotary(
        qkv: T.handle, position_map: T.handle, q: T.handle, k: T.handle, v: T.handle, apply_rope: T.int64
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        num_rows = T.int32()
        positions_offset = T.int32()
        QKV = T.match_buffer(qkv, (num_rows, num_heads, head_dim), dtype)
        Q = T.match_buffer(q, (num_rows, num_q_heads, head_dim), dtype)
        K = T.match_buffer(k, (num_rows, num_kv_heads, head_dim), dtype)
        V = T.match_buffer(v, (num_rows, num_kv_heads, head_dim), dtype)
        positions = T.match_buffer(position_map, (num_rows,), "int32", elem_offset=positions_offset)
        if num_rows * (num_heads * head_dim) <= VALUES_PER_WAKING:
            for s in T.serial(num_rows):
                split_row(QKV, Q, K, V, s, positions[s], apply_rope)
        else:
            for s in T.parallel(num_rows):
                split_row(QKV, Q, K, V, s, positions[s], apply_rope)

    return rotary


def _constants(values: NDArray[np.float64]) -> Any:
    """Constants as one vector, which LLVM splits over as many registers as it needs."""
    constants = [tirx.const(float(value), "float64") for value in values]
    return tirx.Shuffle(constants, [tirx.const(i, "int32") for i in range(len(values))])


def _split_row_macro(
    num_q_heads: int, num_kv_heads: int, head_dim: int, frequencies: NDArray[np.float64], dtype: str
) -> Any:
    """The macro `split_row(QKV, Q, K, V, s, position, apply_rope)` for one token."""
    half = head_dim // 2
    step = lanes(half)
    turns_a_step = _constants(frequencies)

    @T.macro
    def rotate(QKV, out, s, source, head, cosines, sines):
        for i in T.serial(half // step):
            with T.sblock("vector"):
                T.reads()
                T.writes()
                first = local((step,))
                second = local((step,))
                for lane in T.vectorized(step):
                    first[lane] = T.Cast("float32", QKV[s, source, i * step + lane])
                for lane in T.vectorized(step):
                    second[lane] = T.Cast("float32", QKV[s, source, half + i * step + lane])
                for lane in T.vectorized(step):
                    out[s, head, i * step + lane] = T.Cast(
                        dtype, first[lane] * cosines[i * step + lane] - second[lane] * sines[i * step + lane]
                    )
                for lane in T.vectorized(step):
                    out[s, head, half + i * step + lane] = T.Cast(
                        dtype, second[lane] * cosines[i * step + lane] + first[lane] * sines[i * step + lane]
                    )

    @T.macro
    def split_row(QKV, Q, K, V, s, position, apply_rope):
        with T.sblock("row"):
            T.reads()
            T.writes()
            turns = local((half,))
            cosines = local((half,))
            sines = local((half,))
            applied = T.meta_var(T.if_then_else(apply_rope > T.int64(0), position, 0))
            turns[vector(0, half)] = T.Cast(
                f"float32x{half}",
                part_of_a_turn(broadcast(T.Cast("float64", applied), half), turns_a_step),
            )
            cosines[vector(0, half)] = cosine(turns[vector(0, half)])
            sines[vector(0, half)] = sine(turns[vector(0, half)])
            for h in T.serial(num_q_heads):
                rotate(QKV, Q, s, h, h, cosines, sines)
            for h in T.serial(num_kv_heads):
                rotate(QKV, K, s, num_q_heads + h, h, cosines, sines)
            for h in T.serial(num_kv_heads):
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        V[s, h, i * step + lane] = QKV[s, num_q_heads + num_kv_heads + h, i * step + lane]

    return split_row
