"""Attention of one new token a sequence over the pages of that sequence.

Online softmax over pages (Milakov and Gimelshein, 2018), in base 2 as the KV cache's merge expects: the
output is normalised and comes with log2 of its weight. A task is one sequence's KV head with the query heads
that share it.
"""

from __future__ import annotations

import math

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.exponential import exp2
from mlc_serve.compiler.kernels.cpu.lanes import lanes
from mlc_serve.compiler.kernels.cpu.pages import PAGE_SIZE

MASKED = -5e4  # a score that no real one comes near, and that cancels out once a real one is seen


def decode_attention(num_q_heads: int, num_kv_heads: int, head_dim: int) -> tirx.PrimFunc:
    """Q `(b, hq, d)`, pages, and each sequence's page table -> `(b, hq, d)` and log2 weights `(b, hq)`,
    float32.

    The parameters are those that TVM's paged KV cache passes; Q and K arrive rotated.
    """
    group = num_q_heads // num_kv_heads
    step = lanes(head_dim)

    @T.macro
    def score_page(Q, K, scores, b, h, page, num_valid, scale):
        for g in T.unroll(group):
            for t in T.vectorized(PAGE_SIZE):
                scores[g, t] = T.float32(0)
        for i in T.serial(head_dim):
            for g in T.unroll(group):
                for t in T.vectorized(PAGE_SIZE):
                    scores[g, t] = scores[g, t] + Q[b, h * group + g, i] * K[page, 0, h, i * PAGE_SIZE + t]
        for g in T.unroll(group):
            for t in T.vectorized(PAGE_SIZE):
                scores[g, t] = T.Select(t < num_valid, scores[g, t] * scale, T.float32(MASKED))

    @T.macro
    def rescale(output, scores, peak, weight, g):
        with T.sblock("rescale"):
            T.reads()
            T.writes()
            new_peak = T.sblock_alloc_buffer((1,), "float32", scope="local")
            factor = T.sblock_alloc_buffer((1,), "float32", scope="local")
            new_peak[0] = peak[g]
            for t in T.unroll(PAGE_SIZE):
                new_peak[0] = T.max(new_peak[0], scores[g, t])
            if new_peak[0] > peak[g]:
                factor[0] = exp2(peak[g] - new_peak[0])
                peak[g] = new_peak[0]
                for t in T.vectorized(PAGE_SIZE):
                    weight[g, t] = weight[g, t] * factor[0]
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        output[g, i * step + lane] = output[g, i * step + lane] * factor[0]

    @T.macro
    def add_values(V, output, scores, h, page, num_valid):
        for t in T.serial(num_valid):
            for i in T.serial(head_dim // step):
                for g in T.unroll(group):
                    for lane in T.vectorized(step):
                        output[g, i * step + lane] = (
                            output[g, i * step + lane]
                            + scores[g, t] * V[page, 1, h, t * head_dim + i * step + lane]
                        )

    @T.macro
    def finish(output, out, lse, peak, weight, b, h, g):
        with T.sblock("finish"):
            T.reads()
            T.writes()
            total = T.sblock_alloc_buffer((1,), "float32", scope="local")
            total[0] = T.float32(0)
            for t in T.unroll(PAGE_SIZE):
                total[0] = total[0] + weight[g, t]
            for i in T.serial(head_dim // step):
                for lane in T.vectorized(step):
                    out[b, h * group + g, i * step + lane] = output[g, i * step + lane] / total[0]
            lse[b, h * group + g] = T.log2(total[0]) + peak[g]

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
        Q = T.match_buffer(q, (batch, num_q_heads, head_dim), "float32")
        P = T.match_buffer(pages, (num_pages, 2, num_kv_heads, PAGE_SIZE, head_dim), "float32")
        indptr = T.match_buffer(page_indptr, (batch + 1,), "int32", elem_offset=indptr_offset)
        listed = T.match_buffer(page_values, (num_listed,), "int32", elem_offset=values_offset)
        last_page = T.match_buffer(length_info, (batch,), "int32", elem_offset=length_offset)
        K_start = T.match_buffer(k_rope_pos_offset, (batch,), "int32", elem_offset=k_offset)
        Q_position = T.match_buffer(q_rope_position, (batch,), "int32", elem_offset=q_offset)
        O = T.match_buffer(out, (batch, num_q_heads, head_dim), "float32")
        L = T.match_buffer(lse, (batch, num_q_heads), "float32")
        flat = T.decl_buffer((num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim), "float32", data=P.data)
        for task in T.parallel(batch * num_kv_heads):
            b: T.let[T.int32] = task // num_kv_heads
            h: T.let[T.int32] = task % num_kv_heads
            with T.sblock("task"):
                T.reads()
                T.writes()
                output = T.sblock_alloc_buffer((group, head_dim), "float32", scope="local")
                scores = T.sblock_alloc_buffer((group, PAGE_SIZE), "float32", scope="local")
                weight = T.sblock_alloc_buffer((group, PAGE_SIZE), "float32", scope="local")
                peak = T.sblock_alloc_buffer((group,), "float32", scope="local")
                num_valid = T.sblock_alloc_buffer((1,), "int32", scope="local")
                for g in T.unroll(group):
                    peak[g] = T.float32(MASKED)
                    for t in T.vectorized(PAGE_SIZE):
                        weight[g, t] = T.float32(1.0 / PAGE_SIZE)
                    for i in T.serial(head_dim):
                        output[g, i] = T.float32(0)
                for n in T.serial(indptr[b + 1] - indptr[b]):
                    num_valid[0] = PAGE_SIZE
                    if n == indptr[b + 1] - indptr[b] - 1:
                        num_valid[0] = last_page[b]
                    score_page(
                        Q,
                        flat,
                        scores,
                        b,
                        h,
                        listed[indptr[b] + n],
                        num_valid[0],
                        sm_scale * T.float32(math.log2(math.e)),
                    )
                    for g in T.unroll(group):
                        rescale(output, scores, peak, weight, g)
                        for t in T.vectorized(PAGE_SIZE):
                            scores[g, t] = exp2(scores[g, t] - peak[g])
                        for t in T.vectorized(PAGE_SIZE):
                            weight[g, t] = weight[g, t] + scores[g, t]
                    add_values(flat, output, scores, h, listed[indptr[b] + n], num_valid[0])
                for g in T.unroll(group):
                    finish(output, O, L, peak, weight, b, h, g)

    return attention
