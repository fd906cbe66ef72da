"""Attention on the CPU, over the pages of our KV cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.append import append_tokens
from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.prefill import prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED, Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.page_state import PageState, heads_of
from mlc_serve.models.parts.attention import AttentionShape

# A model has many layers of few kinds: each kernel is parsed once.
_append: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(append_tokens)
_decode: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(decode_attention)
_prefill: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(prefill_attention)


class PagedAttention(nn.Module):
    """The attention of one layer. Keys and values, in pages, and results are of `dtype`."""

    def __init__(self, shape: AttentionShape, layer: int, dtype: str, unit: FloatUnit) -> None:
        self._number, self._layer, self._dtype = layer, shape.layers[layer], dtype
        self._heads, self._out_width = heads_of(shape), shape.out_width
        self._visible = Visible(self._layer.window, self._layer.anchors)
        self._kind = (self._heads, Scores(shape.scale, shape.soft_cap), self._visible, dtype, unit)
        self.sinks = nn.Parameter([shape.num_q_heads], "float32") if shape.has_sinks else None

    def forward(self, qkv: nn.Tensor, state: PageState) -> nn.Tensor:
        """QKV `(1, s, num_heads, head_dim)` of the new tokens -> `(1, s, out_width)`."""
        queries, pages = self._append(qkv, state)
        state.pages[self._number] = pages
        return self._attend(queries, pages, state)

    def _append(self, qkv: nn.Tensor, state: PageState) -> tuple[nn.Tensor, nn.Tensor]:
        """The rotated queries, and the pages with the new keys and values."""
        pages, rows = state.pages[self._number], qkv.shape[1]
        num_queries = self._heads.num_q * self._visible.copies
        out = [nn.Tensor.placeholder([rows, num_queries, self._heads.dim], self._dtype), pages]
        operands = [qkv, state.tables.positions, state.tables.slots, pages]
        kernel = _append(self._heads, self._layer.rope, self._dtype, self._visible)
        queries, written = nn.op.tensor_ir_inplace_op(kernel, "append_tokens", operands, [-1, 3], out)
        return queries, written

    def _attend(self, queries: nn.Tensor, pages: nn.Tensor, state: PageState) -> nn.Tensor:
        tables = state.tables
        out = nn.Tensor.placeholder([1, queries.shape[0], self._out_width], self._dtype)
        table = [tables.first_pages, tables.listed, tables.lengths, self._sinks()]
        if state.one_token_each:
            kernel = _decode(*self._kind)
            return nn.op.tensor_ir_op(kernel, "decode_attention", [queries, pages, *table], out)
        rows = [tables.num_sequences, tables.first_rows]
        kernel = _prefill(*self._kind)
        return nn.op.tensor_ir_op(kernel, "prefill_attention", [queries, pages, *rows, *table], out)

    def _sinks(self) -> nn.Tensor:
        """The score of each head's sink, which without sinks is so low that it has no weight."""
        if self.sinks is not None:
            return self.sinks
        return nn.Tensor.from_const(np.full(self._heads.num_q, MASKED, np.float32))
