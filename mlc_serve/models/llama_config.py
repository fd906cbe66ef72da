"""The dimensions of a Llama-like model, from its configuration. Needs no TVM."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.rope import Rope, read_rope

NamedShape = tuple[str, tuple[int, ...]]

_SILU = ("silu", "swish")  # two names of one function


@dataclass(frozen=True)
class AttentionShape:
    """The dimensions that the KV cache and its kernels are made for."""

    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    rope: Rope

    @property
    def q_width(self) -> int:
        """Columns of all queries, or of what attention gives for them."""
        return self.num_q_heads * self.head_dim

    @property
    def qkv_width(self) -> int:
        """Columns of the fused QKV product."""
        return (self.num_q_heads + 2 * self.num_kv_heads) * self.head_dim


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
    mlp_bias: bool
    attention: AttentionShape

    @classmethod
    def from_dict(
        cls, config: Config, *, qkv_bias: bool = False, o_bias: bool = False, mlp_bias: bool = False
    ) -> LlamaConfig:
        """Read config.json's keys, or those of mlc-chat-config.json's model_config.

        Raises CheckpointError naming the key that is missing or malformed, or that asks for something else
        than Llama.
        """
        _check_activation(config)
        rope = read_rope(config)
        return cls(
            vocab_size=size(config, "vocab_size"),
            hidden_size=size(config, "hidden_size"),
            intermediate_size=size(config, "intermediate_size"),
            rms_norm_eps=number(config, "rms_norm_eps", 0, 1, 1e-6),
            context_window_size=_context_window(config, rope),
            tie_word_embeddings=flag(config, "tie_word_embeddings"),
            qkv_bias=qkv_bias,
            o_bias=o_bias,
            mlp_bias=mlp_bias,
            attention=_attention(config, rope),
        )

    def tensor_shapes(self) -> Iterator[NamedShape]:
        """Name and shape of each weight, in the order of the layers; products that are computed at once are
        one, and matrices are `(N, K)`.
        """
        yield "model.embed_tokens.weight", (self.vocab_size, self.hidden_size)
        for layer in range(self.attention.num_layers):
            for name, shape in self._layer_shapes():
                yield f"model.layers.{layer}.{name}", shape
        yield "model.norm.weight", (self.hidden_size,)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, self.hidden_size)

    def _layer_shapes(self) -> Iterator[NamedShape]:
        attention, hidden, inner = self.attention, self.hidden_size, self.intermediate_size
        yield "input_layernorm.weight", (hidden,)
        yield from _product("self_attn.qkv_proj", attention.qkv_width, hidden, self.qkv_bias)
        yield from _product("self_attn.o_proj", hidden, attention.q_width, self.o_bias)
        yield "post_attention_layernorm.weight", (hidden,)
        yield from _product("mlp.gate_up_proj", 2 * inner, hidden, self.mlp_bias)
        yield from _product("mlp.down_proj", hidden, inner, self.mlp_bias)


def _product(name: str, num_rows: int, depth: int, bias: bool) -> Iterator[NamedShape]:
    yield f"{name}.weight", (num_rows, depth)
    if bias:
        yield f"{name}.bias", (num_rows,)


def _check_activation(config: Config) -> None:
    activation = config.get("hidden_act", "silu")
    if activation not in _SILU:
        raise CheckpointError(f"hidden_act {reprlib.repr(activation)} is not supported, only 'silu'")


def _attention(config: Config, rope: Rope) -> AttentionShape:
    num_heads = size(config, "num_attention_heads")
    shape = AttentionShape(
        num_layers=size(config, "num_hidden_layers"),
        num_q_heads=num_heads,
        num_kv_heads=size(config, "num_key_value_heads", num_heads),
        head_dim=size(config, "head_dim", size(config, "hidden_size") // num_heads),
        rope=rope,
    )
    if shape.num_q_heads % shape.num_kv_heads or shape.head_dim % 2:
        raise CheckpointError(
            f"num_attention_heads: {num_heads} attention heads of {shape.head_dim} dimensions can't share "
            f"{shape.num_kv_heads} key-value heads"
        )
    return shape


def _context_window(config: Config, rope: Rope) -> int:
    """What the configuration says, or what stretched positions reach, if that is more: those who stretch them
    by hand leave max_position_embeddings as it was.
    """
    stated = size(config, "max_position_embeddings", size(config, "context_window_size", 2048))
    return stated if rope.scaling is None else max(stated, rope.scaling.context_window_size)
