"""Qwen3 (Yang et al., 2025), the dense models: a Llama that normalises each head of its queries and keys
before it rotates them. The width of a head does not depend on that of the model.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import (
    read_attention,
    read_decoder,
    read_norm,
    same_layers,
)
from mlc_serve.models.layer_types import qwen_windows
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import decoder_names

_HEAD_DIM = 128  # where the configuration does not say


def read_qwen3(config: Config) -> Decoder:
    """See FAMILIES."""
    norm = read_norm(config)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    return read_decoder(
        config, decoder_names("c_attn"), Block(read_qwen3_attention(config, norm.epsilon), mlp, norm)
    )


def read_qwen3_attention(config: Config, epsilon: float) -> Attention:
    """The attention of dense models and of mixtures of experts, which is the same."""
    bias = flag(config, "attention_bias")
    sized = {**config, "head_dim": size(config, "head_dim", _HEAD_DIM)}
    windows = qwen_windows(config)
    shape = read_attention(sized, same_layers(config, windows))
    return Attention(shape, qkv_bias=bias, o_bias=bias, head_norm=HeadNorm("rms", epsilon))
