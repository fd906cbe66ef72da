"""Layers for the CPU. The scheme and the optimization level decide which kernels of `kernels/cpu` they use.
Activations are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.relax.frontend import nn
from tvm.target import Target

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import (
    Arithmetic,
    FloatArithmetic,
    IntegerArithmetic,
    PairArithmetic,
    WidenedArithmetic,
)
from mlc_serve.compiler.kernels.cpu.instructions import dot_for, float_unit_for
from mlc_serve.compiler.kernels.cpu.linear.logits import soften
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.attention import PagedAttention
from mlc_serve.compiler.layers.experts import ExpertMLPs, Router, SharedGate
from mlc_serve.compiler.layers.head_norm import CPUHeadNorm, normalize_heads
from mlc_serve.compiler.layers.integer import IntegerEmbedding, IntegerLinear
from mlc_serve.compiler.layers.latent import LatentHeads
from mlc_serve.compiler.layers.linear import LinearForm
from mlc_serve.compiler.layers.mixture import Mixture, SharedExpert
from mlc_serve.compiler.layers.norm import RowNorm, plain_rows
from mlc_serve.compiler.layers.packed import PackedEmbedding, PackedLinear
from mlc_serve.compiler.layers.page_state import PageState, page_state_spec
from mlc_serve.compiler.layers.recurrent import CPURecurrentLayers
from mlc_serve.compiler.layers.table import Table
from mlc_serve.compiler.optimization import Optimization
from mlc_serve.models.layers import CacheMaker
from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.experts import Experts
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.scheme import Scheme


class CPULayers:
    """Implements models.layers.Layers."""

    dtype = "float32"
    cache_maker: CacheMaker | None = None

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
        activation: Activation | None = None,
        gated: bool = False,
        dtype: str = "float32",
    ) -> PackedLinear | IntegerLinear:
        form = LinearForm(in_features, out_features, bias, activation, gated, self._optimization.fused, dtype)
        if self._scheme.groups is None:
            return PackedLinear(form, self._scheme.weight_dtype, self._unit)
        return IntegerLinear(form, self._scheme.groups, self._arithmetic)

    def experts(self, spec: Experts, hidden: int) -> Mixture:
        return Mixture(
            Router(spec, hidden, self._unit),
            ExpertMLPs(spec, hidden, self._stacked_arithmetic()),
            SharedExpert.make(self, spec, hidden),
            SharedGate(hidden) if spec.shared_gate else None,
            plain_rows,
        )

    def latent_heads(self, spec: LatentAttention) -> LatentHeads:
        return LatentHeads(spec, self._stacked_arithmetic(), self.attention_dtype)

    def _stacked_arithmetic(self) -> Arithmetic:
        groups, dtype = self._scheme.groups, self._scheme.weight_dtype
        if groups is None:
            return PairArithmetic(self._unit) if dtype == "bfloat16" else FloatArithmetic(dtype, self._unit)
        if isinstance(self._arithmetic, FloatUnit):
            return WidenedArithmetic(groups, self._unit)
        return IntegerArithmetic(groups, self._arithmetic)

    def embedding(
        self, vocab_size: int, width: int, *, scale: float = 1.0
    ) -> PackedEmbedding | IntegerEmbedding:
        if self._scheme.groups is None:
            return PackedEmbedding(vocab_size, width, self._scheme.weight_dtype, self._unit, scale)
        return IntegerEmbedding(vocab_size, width, self._scheme.groups, self._arithmetic, scale)

    def table(self, num_rows: int, width: int) -> Table:
        return Table(num_rows, width)

    def norm(self, spec: Norm) -> RowNorm:
        return RowNorm(spec, lazy=self.norms_are_lazy)

    def soften(self, logits: nn.Tensor, scale: float, cap: float | None) -> nn.Tensor:
        if scale == 1 and cap is None:
            return logits
        kernel = soften(int(logits.shape[2]), scale, cap)
        return nn.op.tensor_ir_op(kernel, "soften", [logits], nn.Tensor.placeholder(logits.shape, "float32"))

    def head_norm(self, spec: HeadNorm, num_heads: int, head_dim: int) -> CPUHeadNorm:
        return CPUHeadNorm(spec, num_heads, head_dim)

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: CPUHeadNorm, k_norm: CPUHeadNorm, shape: AttentionShape
    ) -> nn.Tensor:
        return normalize_heads(qkv, q_norm, k_norm, shape, self.attention_dtype)

    def attention(self, shape: AttentionShape, layer: int) -> PagedAttention:
        return PagedAttention(shape, layer, self.attention_dtype, self._unit)

    def state_spec(self, shape: AttentionShape) -> tuple[nn.spec.Tensor, ...]:
        return page_state_spec(shape, self.attention_dtype)

    def state(self, argument: Sequence[nn.Tensor], *, one_token_each: bool) -> PageState:
        return PageState(argument, one_token_each=one_token_each)

    def recurrent(self) -> CPURecurrentLayers:
        return CPURecurrentLayers(self._scheme)
