"""The Llama architecture, and those that are Llama with a switch set: see `qwen2`.

RMS-normalised pre-norm decoder with grouped-query attention, rotary positions and a SwiGLU MLP (Touvron et
al., 2023). Knows neither the device nor how weights are stored: its layers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import AttentionShape, CacheSize, Layers, Rope


@dataclass(frozen=True)
class LlamaConfig:
    """The dimensions of a Llama-like model."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    rms_norm_eps: float
    context_window_size: int
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    attention: AttentionShape

    @classmethod
    def from_dict(
        cls, config: Mapping[str, Any], *, qkv_bias: bool = False, o_bias: bool = False
    ) -> LlamaConfig:
        """Read config.json's keys, or those of mlc-chat-config.json's model_config.

        Raises CheckpointError naming the key that is missing or that asks for something else than Llama.
        """
        _refuse_variants(config)
        num_heads = _positive(config, "num_attention_heads")
        hidden_size = _positive(config, "hidden_size")
        attention = AttentionShape(
            num_layers=_positive(config, "num_hidden_layers"),
            num_q_heads=num_heads,
            num_kv_heads=_positive(config, "num_key_value_heads", num_heads),
            head_dim=_positive(config, "head_dim", hidden_size // num_heads),
            rope=read_rope(config),
        )
        if attention.num_q_heads % attention.num_kv_heads or attention.head_dim % 2:
            raise CheckpointError(
                f"config.json: {num_heads} attention heads of {attention.head_dim} dimensions can't share "
                f"{attention.num_kv_heads} key-value heads"
            )
        return cls(
            vocab_size=_positive(config, "vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=_positive(config, "intermediate_size"),
            rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
            context_window_size=_positive(
                config, "max_position_embeddings", _positive(config, "context_window_size", 2048)
            ),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=qkv_bias,
            o_bias=o_bias,
            attention=attention,
        )


def _positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """The value of a key; `default` where it is missing or null."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or value <= 0:
        raise CheckpointError(f"config.json: {key} must be a positive integer, not {value!r}")
    return value


def _number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """The value of a key; `default` where it is missing or null."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or value <= 0:
        raise CheckpointError(f"config.json: {key} must be a positive number, not {value!r}")
    return float(value)


def _refuse_variants(config: Mapping[str, Any]) -> None:
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(
            f"config.json: hidden_act {config['hidden_act']!r} is not supported, only 'silu'"
        )
    for key in ("mlp_bias", "use_sliding_window"):
        if config.get(key):
            raise CheckpointError(f"config.json: {key} is not supported")


_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def read_rope(config: Mapping[str, Any]) -> Rope:
    """Rotary settings in the spellings of transformers 4 (`rope_theta`, `rope_scaling`) and 5
    (`rope_parameters`), and MLC's.
    """
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping):
        raise CheckpointError(f"config.json: rope_scaling must be an object, not {scaling!r}")
    inherited = _number(config, "rope_theta", _number(config, "position_embedding_base", 10000.0))
    theta = _number(scaling, "rope_theta", inherited)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, position_scale=1.0 / _number(scaling, "factor"))
    if kind == "llama3":
        return Rope(theta, scaling={key: _number(scaling, key) for key in _LLAMA3_KEYS} | {"rope_type": kind})
    raise CheckpointError(f"config.json: RoPE scaling {kind!r} is not supported, only 'linear' and 'llama3'")


class _Attention(nn.Module):
    def __init__(self, config: LlamaConfig, layers: Layers) -> None:
        shape = config.attention
        self.shape = shape
        self.qkv_proj = layers.linear(
            config.hidden_size, shape.qkv_width, bias=config.qkv_bias, dtype=layers.attention_dtype
        )
        self.o_proj = layers.linear(
            shape.num_q_heads * shape.head_dim, config.hidden_size, bias=config.o_bias
        )

    def forward(self, residual: nn.Tensor, x: Any, cache: PagedKVCache, layer: int) -> nn.Tensor:
        shape, num_tokens = self.shape, residual.shape[1]
        num_heads = shape.num_q_heads + 2 * shape.num_kv_heads
        qkv = self.qkv_proj(x).reshape(1, num_tokens, num_heads, shape.head_dim)
        attended = cache.attention_with_fused_qkv(layer, qkv, shape.num_q_heads, shape.head_dim**-0.5)
        return self.o_proj.add_to(
            residual, attended.reshape(1, num_tokens, shape.num_q_heads * shape.head_dim)
        )


class _MLP(nn.Module):
    def __init__(self, config: LlamaConfig, layers: Layers) -> None:
        self.gate_up_proj = layers.linear(config.hidden_size, 2 * config.intermediate_size, gated=True)
        self.down_proj = layers.linear(config.intermediate_size, config.hidden_size)

    def forward(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        return self.down_proj.add_to(residual, self.gate_up_proj.gated(x))


class _DecoderLayer(nn.Module):
    def __init__(self, config: LlamaConfig, layers: Layers) -> None:
        self.input_layernorm = layers.rms_norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = _Attention(config, layers)
        self.post_attention_layernorm = layers.rms_norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = _MLP(config, layers)

    def forward(self, x: nn.Tensor, cache: PagedKVCache, layer: int) -> nn.Tensor:
        x = self.self_attn(x, self.input_layernorm(x), cache, layer)
        return self.mlp(x, self.post_attention_layernorm(x))


class _Decoder(nn.Module):
    def __init__(self, config: LlamaConfig, layers: Layers) -> None:
        self.embed_tokens = layers.embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            [_DecoderLayer(config, layers) for _ in range(config.attention.num_layers)]
        )
        self.norm = layers.rms_norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x, cache, i)
        return x


class LlamaForCausalLM(nn.Module):
    """The functions of a compiled model, with the names and shapes of MLC's libraries.

    s tokens, b sequences, h hidden size, v vocabulary; logits are float32.
    """

    def __init__(self, config: LlamaConfig, layers: Layers) -> None:
        self.config = config
        self.make = layers
        self.model = _Decoder(config, layers)
        if not config.tie_word_embeddings:
            self.lm_head = layers.linear(config.hidden_size, config.vocab_size)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, h)`."""
        return self.model.embed_tokens(input_ids)

    def batch_prefill(
        self, input_embeds: nn.Tensor, logit_positions: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(1, s, h)` and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        hidden = self.model(input_embeds, paged_kv_cache)
        return self._logits(nn.op.take(hidden, logit_positions, axis=1)), paged_kv_cache

    def batch_decode(
        self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(b, 1, h)`, one token a sequence -> `(b, 1, v)`."""
        batch = input_embeds.shape[0]
        hidden = self.model(input_embeds.reshape(1, batch, self.config.hidden_size), paged_kv_cache)
        return self._logits(hidden).reshape(batch, 1, self.config.vocab_size), paged_kv_cache

    def batch_verify(
        self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(1, s, h)` -> the logits of every row, `(1, s, v)`."""
        return self._logits(self.model(input_embeds, paged_kv_cache)), paged_kv_cache

    def create_tir_paged_kv_cache(
        self,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
    ) -> PagedKVCache:
        """The KV cache, for so many sequences and tokens."""
        size = CacheSize(
            max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window
        )
        return self.make.kv_cache(self.config.attention, size)

    def _logits(self, hidden: nn.Tensor) -> nn.Tensor:
        final = self.model.norm(hidden)
        logits = (
            self.model.embed_tokens.logits(final) if self.config.tie_word_embeddings else self.lm_head(final)
        )
        return logits if logits.dtype == "float32" else logits.astype("float32")

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype = self.config.hidden_size, self.make.dtype
        tensor, cache = nn.spec.Tensor, nn.spec.Object(object_type=PagedKVCache)
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    "paged_kv_cache": cache,
                    **packed,
                },
                "batch_decode": {
                    "input_embeds": tensor(["batch_size", 1, hidden], dtype),
                    "paged_kv_cache": cache,
                    **packed,
                },
                "batch_verify": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "paged_kv_cache": cache,
                    **packed,
                },
                "create_tir_paged_kv_cache": {
                    "max_batch_size": int,
                    "max_total_seq_len": int,
                    "prefill_chunk_size": int,
                    "page_size": int,
                    "support_sliding_window": int,
                    "$": {"param_mode": "none", "effect_mode": "none"},
                },
            },
            self,
        )
