"""TVM's paged KV cache for the CPU, which is created with our kernels."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode

from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.merge import merge_attention
from mlc_serve.compiler.kernels.cpu.attention.pages import append_pages, compact_pages, copy_page, read_pages
from mlc_serve.compiler.kernels.cpu.attention.prefill import paged_prefill_attention, ragged_prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.rotary import split_rotary
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import CacheSize
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.rope import Rope

_UNUSED_WINDOW = 1024  # TVM asks for a window size even where no layer has one


class CPUPagedKVCache(PagedKVCache):
    """TVM's paged KV cache over our kernels, without those for sliding windows, token trees and MLA. No layer
    of an architecture here has a window; the kernels for one are `paged_prefill_attention` and
    `decode_attention` with a window.
    """

    def __init__(self, shape: AttentionShape, size: CacheSize, dtype: str, unit: FloatUnit) -> None:
        builder = relax.BlockBuilder.current()
        heads = Heads(shape.num_q_heads, shape.num_kv_heads, shape.head_dim)
        pages = (shape.num_kv_heads, shape.head_dim, dtype)

        def kernel(name: str, function: tirx.PrimFunc) -> relax.Tuple:
            return relax.Tuple([tvm.ir.StringImm("tirx"), builder.add_func(function, name)])

        none: Any = relax.Tuple([])
        merge = merge_attention(shape.num_q_heads, shape.head_dim, dtype)
        append = builder.add_func(append_pages(*pages), "append_pages")
        arguments = [
            *_cache_dimensions(shape, size, dtype),
            append,
            append,  # for MLA, which no architecture here has
            kernel("ragged_prefill_attention", ragged_prefill_attention(heads, dtype, unit)),
            kernel("paged_prefill_attention", paged_prefill_attention(heads, dtype, unit)),
            kernel("decode_attention", decode_attention(heads, dtype, unit)),
            *[none] * 2,  # sliding windows: prefill and decode
            *[none] * 3,  # tree attention over pages and over new tokens, MLA
            relax.Tuple([builder.add_func(merge, "merge_attention")]),
            builder.add_func(split_rotary(*heads, _rope(shape), dtype), "split_rotary"),
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


def _cache_dimensions(shape: AttentionShape, size: CacheSize, dtype: str) -> list[Any]:
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
        relax.prim_value(int(_rope(shape).theta)),
        relax.prim_value(0),  # no RoPE extension factors
        relax.op.zeros((), dtype),  # tells TVM the type of K and V
    ]


def _rope(shape: AttentionShape) -> Rope:
    """The rotation, which TVM's cache takes to be that of all layers."""
    (rope,) = {layer.rope for layer in shape.layers}
    if rope is None:
        raise CheckpointError("attention without rotary positions is not supported yet")
    return rope
