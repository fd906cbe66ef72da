"""Layers for the CPU: packed weights, and the kernels of `kernels/cpu`. Activations are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode

from mlc_serve.compiler.kernels.cpu.activation import silu_multiply
from mlc_serve.compiler.kernels.cpu.decode_attention import decode_attention
from mlc_serve.compiler.kernels.cpu.embedding import packed_embedding
from mlc_serve.compiler.kernels.cpu.matmul import Epilogue, packed_matmul
from mlc_serve.compiler.kernels.cpu.merge import merge_attention
from mlc_serve.compiler.kernels.cpu.norm import rms_norm
from mlc_serve.compiler.kernels.cpu.pages import append_pages, compact_pages, copy_page, read_pages
from mlc_serve.compiler.kernels.cpu.prefill_attention import paged_prefill_attention, ragged_prefill_attention
from mlc_serve.compiler.kernels.cpu.rotary import split_rotary
from mlc_serve.models.layers import AttentionShape, CacheSize
from mlc_serve.quantization.packing import tiles16_shape
from mlc_serve.quantization.scheme import Scheme

# A model has many layers of few shapes: each kernel is parsed once.
_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(packed_matmul)
_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(rms_norm)
_silu: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(silu_multiply)


def _packed_weight(num_columns: int, depth: int, dtype: str) -> nn.Parameter:
    weight = nn.Parameter(tiles16_shape(num_columns, depth), dtype)
    weight.attrs["layout"] = "tiles16"
    weight.attrs["logical_shape"] = [num_columns, depth]
    return weight


class PackedLinear(nn.Module):
    """A product with a weight in tiles of 16 columns."""

    def __init__(self, in_features: int, out_features: int, weight_dtype: str, bias: bool) -> None:
        self.in_features, self.out_features, self.weight_dtype = in_features, out_features, weight_dtype
        self.weight = _packed_weight(out_features, in_features, weight_dtype)
        self.bias = nn.Parameter([out_features], "float32") if bias else None

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        if self.bias is None:
            return self._product("none", [x, self.weight])
        return self._product("bias", [x, self.weight, self.bias])

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        if self.bias is not None:
            return residual + self.forward(x)
        return self._product("residual", [x, self.weight, residual])

    def _product(self, epilogue: Epilogue, operands: list[nn.Tensor]) -> nn.Tensor:
        kernel = _matmul(self.out_features, self.in_features, self.weight_dtype, epilogue)
        out = nn.Tensor.placeholder([1, operands[0].shape[1], self.out_features], "float32")
        return nn.op.tensor_ir_op(kernel, f"matmul_{epilogue}", operands, out)


class PackedEmbedding(nn.Module):
    """An embedding table in the layout of the LM head, which it may be."""

    def __init__(self, vocab_size: int, width: int, weight_dtype: str) -> None:
        self.vocab_size, self.width, self.weight_dtype = vocab_size, width, weight_dtype
        self.weight = _packed_weight(vocab_size, width, weight_dtype)

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = packed_embedding(self.vocab_size, self.width, self.weight_dtype)
        out = nn.Tensor.placeholder([ids.shape[0], self.width], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.weight], out)

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        kernel = _matmul(self.vocab_size, self.width, self.weight_dtype, "none")
        out = nn.Tensor.placeholder([1, x.shape[1], self.vocab_size], "float32")
        return nn.op.tensor_ir_op(kernel, "lm_head", [x, self.weight], out)


class RMSNorm(nn.Module):
    """RMS normalization with a float32 weight."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        out = nn.Tensor.placeholder([1, x.shape[1], self.width], "float32")
        return nn.op.tensor_ir_op(_norm(self.width, self.epsilon), "rms_norm", [x, self.weight], out)


class CPULayers:
    """Implements models.layers.Layers."""

    dtype = "float32"

    def __init__(self, scheme: Scheme) -> None:
        self._weight_dtype = scheme.weight_dtype

    def linear(self, in_features: int, out_features: int, *, bias: bool = False) -> PackedLinear:
        return PackedLinear(in_features, out_features, self._weight_dtype, bias)

    def embedding(self, vocab_size: int, width: int) -> PackedEmbedding:
        return PackedEmbedding(vocab_size, width, self._weight_dtype)

    def rms_norm(self, width: int, epsilon: float) -> RMSNorm:
        return RMSNorm(width, epsilon)

    def silu_multiply(self, gate_up: nn.Tensor) -> nn.Tensor:
        width = int(gate_up.shape[2]) // 2
        out = nn.Tensor.placeholder([1, gate_up.shape[1], width], "float32")
        return nn.op.tensor_ir_op(_silu(width), "silu_multiply", [gate_up], out)

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        return _CPUPagedKVCache(shape, size)


class _CPUPagedKVCache(PagedKVCache):
    """TVM's paged KV cache over our kernels. Sliding windows and token trees have none here: their slots stay
    empty.
    """

    def __init__(self, shape: AttentionShape, size: CacheSize) -> None:
        builder = relax.BlockBuilder.current()
        heads = (shape.num_q_heads, shape.num_kv_heads, shape.head_dim)
        pages = (shape.num_kv_heads, shape.head_dim)

        def kernel(name: str, function: tirx.PrimFunc) -> relax.Tuple:
            return relax.Tuple([tvm.ir.StringImm("tirx"), builder.add_func(function, name)])

        none: Any = relax.Tuple([])
        append = builder.add_func(append_pages(*pages), "append_pages")
        arguments = [
            *_cache_dimensions(shape, size),
            append,
            append,  # the slot of MLA, which no architecture here has
            kernel("ragged_prefill_attention", ragged_prefill_attention(*heads)),
            kernel("paged_prefill_attention", paged_prefill_attention(*heads)),
            kernel("decode_attention", decode_attention(*heads)),
            *[none] * 5,  # sliding-window prefill and decode, tree attention paged and ragged, MLA
            relax.Tuple(
                [builder.add_func(merge_attention(shape.num_q_heads, shape.head_dim), "merge_attention")]
            ),
            builder.add_func(
                split_rotary(*heads, shape.rope.theta, shape.rope.scaling, shape.rope.position_scale),
                "split_rotary",
            ),
            builder.add_func(copy_page(*pages), "copy_page"),
            builder.add_func(read_pages(shape.num_layers, *pages), "read_pages"),
            builder.add_func(compact_pages(*pages), "compact_pages"),
        ]
        super().__init__(
            _expr=relax.call_pure_packed(
                "vm.builtin.paged_attention_kv_cache_create", *arguments, ty_args=relax.AnyType()
            ),
            _name="paged_kv_cache",
        )


_UNUSED_WINDOW = 1024  # TVM asks for a window size even where no layer has one


def _cache_dimensions(shape: AttentionShape, size: CacheSize) -> list[Any]:
    return [
        relax.ShapeExpr(
            [
                size.max_batch_size,
                size.max_total_seq_len,
                size.prefill_chunk_size,
                size.page_size,
                size.support_sliding_window,
                _UNUSED_WINDOW,
            ]
        ),
        relax.ShapeExpr([0, shape.num_layers]),
        relax.prim_value(shape.num_q_heads),
        relax.prim_value(shape.num_kv_heads),
        relax.prim_value(shape.head_dim),
        relax.prim_value(shape.head_dim),
        relax.ShapeExpr([int(AttnKind.MHA)] * shape.num_layers),
        relax.prim_value(False),
        relax.prim_value(int(RopeMode.NORMAL)),
        relax.prim_value(1),
        relax.prim_value(int(shape.rope.theta)),
        relax.prim_value(0),  # no RoPE extension factors
        relax.op.zeros((), "float32"),  # tells TVM the type of K and V
    ]
