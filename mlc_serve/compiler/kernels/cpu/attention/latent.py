"""From a token's queries and latent to queries and a key that all heads share, and from attention's results
to the values of each head.

A latent is what keys and values of all heads are made of, by one product each: a head's key is U times the
latent, and its value is V times the latent. As q (U c) = (q U) c, attention takes the latents themselves for
keys and values, if queries are multiplied by U before, and the results by V after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.head_product import HeadProduct, head_product_macro
from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.normal import normal_macro
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.latent_attention import LatentAttention


@dataclass(frozen=True)
class _Latent:
    """Implements NormalRow for a token's latent, which follows the part of its key that turns."""

    buffer: Any  # (1, s, n) float32
    row: Any
    first: int

    def at(self, i: Any) -> Any:
        return self.buffer[0, self.row, self.first + i]

    def distance(self, i: Any, mean: Any) -> Any:
        return self.at(i) - mean


def latent_queries(part: LatentAttention, arithmetic: Arithmetic, dtype: str) -> tirx.PrimFunc:
    """Queries `(1, s, h, r + n)`, of which the first r values turn, what keys are made of `(1, s, r + c)`,
    and the weight `(c,)` of the latents' norm, all float32; and one or two parameters of the weights
    `(h, c, n)` of keys -> `(1, s, h + 1, r + c)` of `dtype`: queries, and then the key, that do not turn yet.

    A second parameter that does not exist may be any tensor.
    """
    turned, rank, num_heads = part.qk_rope_head_dim, part.kv_lora_rank, part.num_heads
    product = query_product(part)
    weights = product.weight_of(arithmetic)
    num_parts, q_dim, dim = len(weights), part.q_head_dim, turned + rank
    multiply, copy = head_product_macro(product, arithmetic, dtype), each_row_macro(_copy_macro(part, dtype))

    @T.prim_func(s_tir=True, private=True)
    def queries(x: T.handle, latents: T.handle, norm: T.handle, w: T.handle, v: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, num_heads, q_dim), "float32")
        L = T.match_buffer(latents, (1, num_rows, dim), "float32")
        N = T.match_buffer(norm, (rank,), "float32")
        W = T.match_buffer(w, weights[0].shape, weights[0].dtype)
        Y = T.match_buffer(y, (1, num_rows, num_heads + 1, dim), dtype)
        if num_parts == 2:
            V = T.match_buffer(v, weights[1].shape, weights[1].dtype)
        with T.sblock("root"):
            T.attr(T.int32(0), "pragma_import_llvm", arithmetic.definitions)
            copy((X, L, N, Y), num_rows)
            multiply(X, (W, V) if num_parts == 2 else (W,), Y, num_rows)

    return queries


def latent_values(part: LatentAttention, arithmetic: Arithmetic, dtype: str) -> tirx.PrimFunc:
    """Attention's results `(1, s, h, c)` of `dtype`, and one or two parameters of the weights `(h, v, c)` of
    values -> values `(1, s, h, v)` float32. A second parameter that does not exist may be any tensor.
    """
    num_heads, rank, value_dim = part.num_heads, part.kv_lora_rank, part.v_head_dim
    product = value_product(part)
    weights = product.weight_of(arithmetic)
    num_parts, multiply = len(weights), head_product_macro(product, arithmetic, "float32")

    @T.prim_func(s_tir=True, private=True)
    def values(x: T.handle, w: T.handle, v: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, num_heads, rank), dtype)
        W = T.match_buffer(w, weights[0].shape, weights[0].dtype)
        Y = T.match_buffer(y, (1, num_rows, num_heads, value_dim), "float32")
        if num_parts == 2:
            V = T.match_buffer(v, weights[1].shape, weights[1].dtype)
        with T.sblock("root"):
            T.attr(T.int32(0), "pragma_import_llvm", arithmetic.definitions)
            multiply(X, (W, V) if num_parts == 2 else (W,), Y, num_rows)

    return values


def query_product(part: LatentAttention) -> HeadProduct:
    """The product of queries, which gives all but the first values of each head."""
    turned = part.qk_rope_head_dim
    return HeadProduct(part.num_heads, part.kv_lora_rank, part.qk_nope_head_dim, turned, turned)


def value_product(part: LatentAttention) -> HeadProduct:
    """The product of attention's results."""
    return HeadProduct(part.num_heads, part.v_head_dim, part.kv_lora_rank)


def _copy_macro(part: LatentAttention, dtype: str) -> Any:
    """The macro `copy(operands, row)`: what turns of each head and of the key, and the normalised latent."""
    turned, rank, num_heads = part.qk_rope_head_dim, part.kv_lora_rank, part.num_heads
    few, step = lanes(turned), lanes(rank)
    find = normal_macro(part.latent_norm)

    @T.macro
    def copy(operands, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            X, L, N, Y = operands
            normal = local((2,))
            for h, i in T.grid(num_heads, turned // few):
                for lane in T.vectorized(few):
                    Y[0, row, h, i * few + lane] = T.Cast(dtype, X[0, row, h, i * few + lane])
            for i in T.serial(turned // few):
                for lane in T.vectorized(few):
                    Y[0, row, num_heads, i * few + lane] = T.Cast(dtype, L[0, row, i * few + lane])
            find(_Latent(L, row, turned), normal)
            for i in T.serial(rank // step):
                for lane in T.vectorized(step):
                    Y[0, row, num_heads, turned + i * step + lane] = T.Cast(
                        dtype, L[0, row, turned + i * step + lane] * normal[0] * N[i * step + lane]
                    )

    return copy
