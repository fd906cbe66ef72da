"""Layers for GPUs: Relax's own operators, scheduled by dlight, and TVM's attention kernels for GPUs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode, TIRPagedKVCache
from tvm.target import Target

from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import CacheSize
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.rope import LinearScaling, Llama3Scaling, Rope
from mlc_serve.quantization.scheme import Scheme


class PlainLinear(nn.Linear):
    """A product with a row-major weight."""

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        return residual + self.forward(x)

    def gated(self, x: nn.Tensor) -> nn.Tensor:
        gate, up = nn.op.split(self.forward(x), 2, axis=-1)
        return nn.op.silu(gate) * up


class PlainEmbedding(nn.Embedding):
    """A row-major embedding table."""

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        return nn.op.matmul(x, nn.op.permute_dims(self.weight), out_dtype="float32")


class CacheState:
    """Implements models.layers.State with TVM's KV cache."""

    def __init__(self, cache: PagedKVCache) -> None:
        self.cache = cache

    def returned(self, result: nn.Tensor) -> tuple[nn.Tensor, PagedKVCache]:
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
        return attended.reshape(1, qkv.shape[1], shape.q_width)


class GPULayers:
    """Implements models.layers.Layers, and models.layers.CacheMaker."""

    def __init__(self, scheme: Scheme, target: Target) -> None:
        self.dtype = self.attention_dtype = scheme.weight_dtype
        self.cache_maker = self
        self.norms_are_lazy = False
        self.bfloat16_products = False
        self._target = target

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        gated: bool = False,  # noqa: ARG002  one layer does both
        dtype: str | None = None,
    ) -> PlainLinear:
        return PlainLinear(in_features, out_features, bias=bias, dtype=dtype or self.dtype)

    def embedding(self, vocab_size: int, width: int) -> PlainEmbedding:
        return PlainEmbedding(vocab_size, width, dtype=self.dtype)

    def rms_norm(self, width: int, epsilon: float) -> nn.RMSNorm:
        return nn.RMSNorm(width, -1, epsilon, bias=False, dtype=self.dtype)

    def head_norm(self, width: int, epsilon: float) -> nn.RMSNorm:
        return self.rms_norm(width, epsilon)

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: nn.RMSNorm, k_norm: nn.RMSNorm, shape: AttentionShape
    ) -> nn.Tensor:
        num_q, num_kv = shape.num_q_heads, shape.num_kv_heads
        q, k, v = nn.op.split(qkv, [num_q, num_q + num_kv], axis=2)
        return nn.op.concat([q_norm(q), k_norm(k), v], dim=2)

    def attention(self, shape: AttentionShape, layer: int) -> CacheAttention:
        return CacheAttention(shape, layer)

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
            rope_mode=RopeMode.NORMAL,
            rope_theta=_rope(shape).theta,
            **_scaling(_rope(shape)),
            rope_ext_factors=relax.prim_value(0),  # none
            rotary_dim=shape.head_dim,
            enable_disaggregation=False,
            dtype=self.dtype,
            target=self._target,
        )


def _scaling(rope: Rope) -> dict[str, Any]:
    """A scaling as TVM describes it: a number that positions are multiplied by, and a dictionary."""
    match rope.scaling:
        case None:
            return {"rope_scale": 1.0, "rope_scaling": {}}
        case LinearScaling(factor=factor):
            return {"rope_scale": 1.0 / factor, "rope_scaling": {}}
        case Llama3Scaling() as scaling:
            return {"rope_scale": 1.0, "rope_scaling": {"rope_type": "llama3", **asdict(scaling)}}
    raise CheckpointError("rope_scaling: the type 'yarn' is available only on the CPU")


def _check(shape: AttentionShape) -> None:
    refused = {
        "layers with a sliding window": any(layer.window is not None for layer in shape.layers),
        "layers that rotate differently": len({layer.rope for layer in shape.layers}) > 1,
        "soft caps of attention": shape.soft_cap is not None,
        "learned attention sinks": shape.has_sinks,
    }
    for name, is_wanted in refused.items():
        if is_wanted:
            raise CheckpointError(f"{name} are available only on the CPU")


def _rope(shape: AttentionShape) -> Rope:
    """The rotation of all layers."""
    rope = shape.layers[0].rope
    if rope is None:
        raise CheckpointError("attention without rotary positions is available only on the CPU")
    return rope
