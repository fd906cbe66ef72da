"""Layers for GPUs: Relax's own operators, scheduled by dlight, and TVM's attention kernels for GPUs."""

from __future__ import annotations

from typing import Any, NoReturn

from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, TIRPagedKVCache
from tvm.target import Target

from mlc_serve.compiler.layers.gpu_experts import PlainExpertMLPs, PlainRouter, PlainSharedGate
from mlc_serve.compiler.layers.gpu_head_norm import GPUHeadNorm
from mlc_serve.compiler.layers.gpu_rope import rope_arguments
from mlc_serve.compiler.layers.mixture import Mixture, SharedExpert
from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import CacheMaker, CacheSize
from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.experts import Experts
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.scheme import Scheme


class PlainLinear(nn.Linear):
    """A product with a row-major weight. Implements models.layers.Linear."""

    def __init__(
        self, shape: tuple[int, int], dtype: str, *, bias: bool, activation: Activation | None, gated: bool
    ) -> None:
        super().__init__(*shape, bias=bias, dtype=dtype)
        self.activation, self.gated = activation, gated

    def add_to(self, residual: nn.Tensor, x: nn.Tensor, scale: float = 1.0) -> nn.Tensor:
        y = self.forward(x)
        return residual + (y if scale == 1 else y * scale)

    def activated(self, x: nn.Tensor) -> nn.Tensor:
        if self.activation is None:
            raise ValueError("the layer was made without an activation")
        y = self.forward(x)
        if not self.gated:
            return _activated(self.activation, y)
        gate, up = nn.op.split(y, 2, axis=-1)
        return _activated(self.activation, gate) * up


class PlainEmbedding(nn.Embedding):
    """A row-major embedding table. Implements models.layers.Embedding."""

    def __init__(self, vocab_size: int, width: int, dtype: str, scale: float) -> None:
        super().__init__(vocab_size, width, dtype=dtype)
        self.scale = scale

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        rows = super().forward(ids)
        return rows if self.scale == 1 else rows * self.scale

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        return nn.op.matmul(x, nn.op.permute_dims(self.weight), out_dtype="float32")


class PlainTable(nn.Embedding):
    """A row-major table of positions. Implements models.layers.Table."""

    def add_to(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        return x + self.forward(positions)


class PlainNorm(nn.Module):
    """A norm of rows. Implements models.layers.RowNorm."""

    def __init__(self, spec: Norm, dtype: str) -> None:
        self.spec = spec
        self.weight = nn.Parameter([spec.width], dtype)
        self.bias = nn.Parameter([spec.width], dtype) if spec.bias else None

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.rows(x)

    def rows(self, x: nn.Tensor) -> nn.Tensor:
        spec = self.spec
        if spec.kind == "layer":
            return nn.op.layer_norm(x, spec.width, self.weight, self.bias, spec.epsilon)
        scaled = nn.op.rms_norm(x, self.weight, [-1], spec.epsilon)
        return scaled if self.bias is None else scaled + self.bias

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        return residual + self.rows(x)


def _activated(activation: Activation, x: nn.Tensor) -> nn.Tensor:
    match activation:
        case "silu":
            return nn.op.silu(x)
        case "gelu":
            return nn.op.gelu(x)
        case "gelu_tanh":
            return nn.op.gelu(x, approximate="tanh")
        case "relu_squared":
            positive = nn.op.relu(x)
            return positive * positive


class CacheState:
    """Implements models.layers.State with TVM's KV cache."""

    def __init__(self, cache: PagedKVCache) -> None:
        self.cache = cache
        self.recurrent: Any = None

    def positions(self, num_tokens: Any) -> nn.Tensor:
        return self.cache.get_query_positions(num_tokens)

    def returned(self, result: Any) -> tuple[Any, PagedKVCache]:
        return result, self.cache


class CacheAttention(nn.Module):
    """The attention of one layer, which TVM's KV cache computes.

    Raises CheckpointError for what that cache can't do.
    """

    def __init__(self, shape: AttentionShape, layer: int) -> None:
        _check(shape)
        self._shape, self._layer = shape, layer

    def forward(self, qkv: nn.Tensor, state: CacheState) -> nn.Tensor:
        shape = self._shape
        attended = state.cache.attention_with_fused_qkv(self._layer, qkv, shape.num_q_heads, shape.scale)
        return attended.reshape(1, qkv.shape[1], shape.out_width)


class GPULayers:
    """Implements models.layers.Layers, and models.layers.CacheMaker."""

    def __init__(self, scheme: Scheme, target: Target) -> None:
        self.dtype = self.attention_dtype = scheme.weight_dtype
        self.cache_maker: CacheMaker | None = self
        self.norms_are_lazy = False
        self.bfloat16_products = False
        self._target = target

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        activation: Activation | None = None,
        gated: bool = False,
        dtype: str | None = None,
    ) -> PlainLinear:
        shape = in_features, out_features
        return PlainLinear(shape, dtype or self.dtype, bias=bias, activation=activation, gated=gated)

    def experts(self, spec: Experts, hidden: int) -> Mixture:
        return Mixture(
            PlainRouter(spec, hidden, self.dtype),
            PlainExpertMLPs(spec, hidden, self.dtype),
            SharedExpert.make(self, spec, hidden),
            PlainSharedGate(hidden, self.dtype) if spec.shared_gate else None,
            lambda rows: rows,
        )

    def embedding(self, vocab_size: int, width: int, *, scale: float = 1.0) -> PlainEmbedding:
        return PlainEmbedding(vocab_size, width, self.dtype, scale)

    def table(self, num_rows: int, width: int) -> PlainTable:
        return PlainTable(num_rows, width, dtype=self.dtype)

    def norm(self, spec: Norm) -> PlainNorm:
        return PlainNorm(spec, self.dtype)

    def soften(self, logits: nn.Tensor, scale: float, cap: float | None) -> nn.Tensor:
        if cap is not None:
            return nn.op.tanh(logits * (scale / cap)) * cap
        return logits if scale == 1 else logits * scale

    def head_norm(self, spec: HeadNorm, num_heads: int, head_dim: int) -> GPUHeadNorm:
        return GPUHeadNorm(spec, num_heads, head_dim, self.dtype)

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: GPUHeadNorm, k_norm: GPUHeadNorm, shape: AttentionShape
    ) -> nn.Tensor:
        num_q, num_kv = shape.num_q_heads, shape.num_kv_heads
        q, k, v = nn.op.split(qkv, [num_q, num_q + num_kv], axis=2)
        return nn.op.concat([q_norm(q), k_norm(k), v], dim=2)

    def attention(self, shape: AttentionShape, layer: int) -> CacheAttention:
        return CacheAttention(shape, layer)

    def latent_heads(self, spec: LatentAttention) -> NoReturn:  # noqa: ARG002  there are none
        raise CheckpointError("latent attention is available only on the CPU")

    def state_spec(self, shape: AttentionShape) -> nn.spec.Object:  # noqa: ARG002  it is the same for all
        return nn.spec.Object(object_type=PagedKVCache)

    def state(self, argument: PagedKVCache, *, one_token_each: bool) -> CacheState:  # noqa: ARG002
        return CacheState(argument)

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        return TIRPagedKVCache(
            attn_kind="mha",
            max_batch_size=size.max_batch_size,
            max_total_seq_len=size.max_total_seq_len,
            prefill_chunk_size=size.prefill_chunk_size,
            page_size=size.page_size,
            support_sliding_window=size.support_sliding_window,
            layer_partition=relax.ShapeExpr([0, shape.num_layers]),
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_q_heads,
            num_key_value_heads=shape.num_kv_heads,
            qk_head_dim=shape.head_dim,
            v_head_dim=shape.head_dim,
            mla_original_qk_head_dim=0,
            mla_original_v_head_dim=0,
            **rope_arguments(shape),
            enable_disaggregation=False,
            dtype=self.dtype,
            target=self._target,
        )

    def recurrent(self) -> NoReturn:
        raise CheckpointError("recurrent models are available only on the CPU")


def _check(shape: AttentionShape) -> None:
    """Raise CheckpointError for what TVM's cache and its kernels can't do."""
    rope_arguments(shape)
    refused = {
        "layers with a sliding window": any(layer.window is not None for layer in shape.layers),
        "soft caps of attention": shape.soft_cap is not None,
        "learned attention sinks": shape.has_sinks,
    }
    for name, is_wanted in refused.items():
        if is_wanted:
            raise CheckpointError(f"{name} are available only on the CPU")
