"""The dimensions of Llama and of the families that differ from it only in a few switches. TVM is imported
only when a model is built.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import NamedShape
from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.rope import Rope
from mlc_serve.models.rope_config import read_rope

if TYPE_CHECKING:
    from mlc_serve.models.decoder_module import DecoderModule
    from mlc_serve.models.layers import Layers

_MOST_LAYERS = 2**17  # a bound, because the kind of each layer is stored
_SILU = ("silu", "swish")  # two names for one function


@dataclass(frozen=True)
class Decoder:
    """Implements architecture.Architecture for a pre-norm decoder with rotary positions, grouped-query
    attention and a SwiGLU MLP.

    `head_norms` says that each head of queries and keys is normalised before it is rotated.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    rms_norm_eps: float
    context_window_size: int
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    head_norms: bool
    attention: AttentionShape

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        qkv_bias: bool = False,
        o_bias: bool = False,
        mlp_bias: bool = False,
        head_norms: bool = False,
    ) -> Decoder:
        """Read the keys of config.json, or of model_config in mlc-chat-config.json. All layers have full
        attention.

        Raises CheckpointError, which names the key, if a key is missing or malformed, or asks for something
        that this decoder does not have.
        """
        _check_activation(config)
        rope = read_rope(config)
        attention = _attention(config, rope)
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
            head_norms=head_norms,
            attention=attention,
        )

    def with_windows(self, windows: Sequence[int | None]) -> Decoder:
        """The same, with the window of each layer."""
        layers = [
            replace(layer, window=window)
            for layer, window in zip(self.attention.layers, windows, strict=True)
        ]
        return replace(self, attention=replace(self.attention, layers=tuple(layers)))

    @property
    def workspace_width(self) -> int:
        """Residuals, the fused QKV product before and after the cache has split it, and the MLP."""
        num_qkv = 3 if self.head_norms else 2
        return 3 * self.hidden_size + num_qkv * self.attention.qkv_width + 3 * self.intermediate_size

    def weights(self) -> Iterator[NamedShape]:
        """See Architecture."""
        yield "model.embed_tokens.weight", (self.vocab_size, self.hidden_size)
        for layer in range(self.attention.num_layers):
            for name, shape in self._layer_weights():
                yield f"model.layers.{layer}.{name}", shape
        yield "model.norm.weight", (self.hidden_size,)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, self.hidden_size)

    def build(self, layers: Layers) -> DecoderModule:
        """See Architecture."""
        from mlc_serve.models.decoder_module import DecoderModule  # noqa: PLC0415 - needs TVM's compiler

        return DecoderModule(self, layers)

    def _layer_weights(self) -> Iterator[NamedShape]:
        attention, hidden, inner = self.attention, self.hidden_size, self.intermediate_size
        yield "input_layernorm.weight", (hidden,)
        yield from _product("self_attn.qkv_proj", attention.qkv_width, hidden, self.qkv_bias)
        if self.head_norms:
            yield "self_attn.q_norm.weight", (attention.head_dim,)
            yield "self_attn.k_norm.weight", (attention.head_dim,)
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
    head_dim = size(config, "head_dim", size(config, "hidden_size") // num_heads)
    num_layers = size(config, "num_hidden_layers", up_to=_MOST_LAYERS)
    shape = AttentionShape(
        num_q_heads=num_heads,
        num_kv_heads=size(config, "num_key_value_heads", num_heads),
        head_dim=head_dim,
        layers=(AttentionLayer(rope),) * num_layers,
        scale=head_dim**-0.5,
    )
    if shape.num_q_heads % shape.num_kv_heads or shape.head_dim % 2:
        raise CheckpointError(
            f"num_attention_heads: {num_heads} attention heads of {shape.head_dim} dimensions can't share "
            f"{shape.num_kv_heads} key-value heads"
        )
    return shape


def _context_window(config: Config, rope: Rope) -> int:
    """Return the window that the configuration states, or the one that its positions reach."""
    return rope.context_window(
        size(config, "max_position_embeddings", size(config, "context_window_size", 2048))
    )
