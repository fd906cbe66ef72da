"""Layers for the CPU. The scheme and the optimization level decide which kernels of `kernels/cpu` they use.
Activations are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.relax.frontend import nn
from tvm.target import Target

from mlc_serve.compiler.kernels.cpu.instructions import dot_for, float_unit_for
from mlc_serve.compiler.layers.attention import PagedAttention
from mlc_serve.compiler.layers.head_norm import normalize_heads
from mlc_serve.compiler.layers.integer import IntegerEmbedding, IntegerLinear, LazyNorm
from mlc_serve.compiler.layers.packed import PackedEmbedding, PackedLinear, RMSNorm
from mlc_serve.compiler.layers.page_state import PageState, page_state_spec
from mlc_serve.compiler.optimization import Optimization
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.quantization.scheme import Scheme


class CPULayers:
    """Implements models.layers.Layers."""

    dtype = "float32"
    cache_maker = None

    def __init__(self, scheme: Scheme, optimization: Optimization, target: Target) -> None:
        self._scheme = scheme
        self._optimization = optimization
        self._unit = float_unit_for(target)
        self.bfloat16_products = self._unit.has_pairs
        self._arithmetic = (
            dot_for(target, scheme.groups) if scheme.groups and optimization.integer_products else self._unit
        )
        self.norms_are_lazy = scheme.groups is not None and optimization.fused
        narrow = optimization.half_kv and scheme.groups is not None
        self.attention_dtype = "float16" if narrow else "float32"

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        gated: bool = False,
        dtype: str = "float32",
    ) -> PackedLinear | IntegerLinear:
        groups, shape = self._scheme.groups, (in_features, out_features)
        gated = gated and self._optimization.fused
        if groups is None:
            return PackedLinear(shape, self._scheme.weight_dtype, self._unit, bias, gated)
        return IntegerLinear(shape, groups, self._arithmetic, bias, gated, dtype)

    def embedding(self, vocab_size: int, width: int) -> PackedEmbedding | IntegerEmbedding:
        if self._scheme.groups is None:
            return PackedEmbedding(vocab_size, width, self._scheme.weight_dtype, self._unit)
        return IntegerEmbedding(vocab_size, width, self._scheme.groups, self._arithmetic)

    def rms_norm(self, width: int, epsilon: float) -> RMSNorm | LazyNorm:
        return LazyNorm(width, epsilon) if self.norms_are_lazy else RMSNorm(width, epsilon)

    def head_norm(self, width: int, epsilon: float) -> RMSNorm:
        return RMSNorm(width, epsilon)

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: RMSNorm, k_norm: RMSNorm, shape: AttentionShape
    ) -> nn.Tensor:
        return normalize_heads(qkv, q_norm, k_norm, shape, self.attention_dtype)

    def attention(self, shape: AttentionShape, layer: int) -> PagedAttention:
        return PagedAttention(shape, layer, self.attention_dtype, self._unit)

    def state_spec(self, shape: AttentionShape) -> tuple[nn.spec.Tensor, ...]:
        return page_state_spec(shape, self.attention_dtype)

    def state(self, argument: Sequence[nn.Tensor], *, one_token_each: bool) -> PageState:
        return PageState(argument, one_token_each=one_token_each)
