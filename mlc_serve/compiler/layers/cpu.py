"""Layers for the CPU. The scheme and the optimization level decide which kernels of `kernels/cpu` they use.
Activations are float32.
"""

from __future__ import annotations

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache
from tvm.target import Target

from mlc_serve.compiler.cpu_kv_cache import CPUPagedKVCache
from mlc_serve.compiler.kernels.cpu.experts.arithmetic import (
    Arithmetic,
    FloatArithmetic,
    IntegerArithmetic,
    PairArithmetic,
    WidenedArithmetic,
)
from mlc_serve.compiler.kernels.cpu.instructions import dot_for, float_unit_for
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.experts import ExpertMLPs, Router, SharedGate
from mlc_serve.compiler.layers.head_norm import normalize_heads
from mlc_serve.compiler.layers.integer import IntegerEmbedding, IntegerLinear, LazyNorm, plain_rows
from mlc_serve.compiler.layers.mixture import Mixture, SharedExpert
from mlc_serve.compiler.layers.packed import PackedEmbedding, PackedLinear, RMSNorm
from mlc_serve.compiler.optimization import Optimization
from mlc_serve.models.attention import AttentionShape
from mlc_serve.models.layers import CacheSize
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.scheme import Scheme


class CPULayers:
    """Implements models.layers.Layers."""

    dtype = "float32"

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

    def experts(self, spec: Experts, hidden: int) -> Mixture:
        shared = spec.shared and SharedExpert(
            self.linear(hidden, 2 * spec.shared, gated=True), self.linear(spec.shared, hidden)
        )
        return Mixture(
            Router(spec, hidden, self._unit),
            ExpertMLPs(spec, hidden, self._expert_arithmetic()),
            shared or None,
            SharedGate(hidden) if spec.shared_gate else None,
            plain_rows,
        )

    def _expert_arithmetic(self) -> Arithmetic:
        groups, dtype = self._scheme.groups, self._scheme.weight_dtype
        if groups is None:
            return PairArithmetic(self._unit) if dtype == "bfloat16" else FloatArithmetic(dtype, self._unit)
        if isinstance(self._arithmetic, FloatUnit):
            return WidenedArithmetic(groups, self._unit)
        return IntegerArithmetic(groups, self._arithmetic)

    def rms_norm(self, width: int, epsilon: float) -> RMSNorm | LazyNorm:
        return LazyNorm(width, epsilon) if self.norms_are_lazy else RMSNorm(width, epsilon)

    def head_norm(self, width: int, epsilon: float) -> RMSNorm:
        return RMSNorm(width, epsilon)

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: RMSNorm, k_norm: RMSNorm, shape: AttentionShape
    ) -> nn.Tensor:
        return normalize_heads(qkv, q_norm, k_norm, shape, self.attention_dtype)

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        return CPUPagedKVCache(shape, size, self.attention_dtype, self._unit)
