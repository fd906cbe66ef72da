"""Granite 3 (IBM, 2024): a Llama with factors on embeddings, scores, residuals and logits."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import decoder_names

_LARGEST_FACTOR = 1e6


def read_granite(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "attention_bias")
    shape = read_attention(config, same_layers(config), scale=_factor(config, "attention_multiplier"))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config), bias=flag(config, "mlp_bias"))
    residual_scale = _factor(config, "residual_multiplier")
    return read_decoder(
        config,
        decoder_names("qkv_proj"),
        Block(attention, mlp, read_norm(config), residual_scale=residual_scale),
        embedding=Embedding(scale=_factor(config, "embedding_multiplier")),
        head=Head(is_tied=flag(config, "tie_word_embeddings"), scale=1 / _factor(config, "logits_scaling")),
    )


def _factor(config: Config, key: str) -> float:
    return number(config, key, 0, _LARGEST_FACTOR, 1.0)
