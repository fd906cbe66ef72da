"""Nemotron and Minitron (Parmar et al., 2024): layer norms that are stored less one, an MLP with the square
of ReLU and no gate, and a part of each head turned.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_layer_norm, same_layers
from mlc_serve.models.families.gemma import less_one
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_names import QKV, WeightNames

_POSITIONS = RopeStyle(part=0.5)
_NORMS = (less_one("input_layernorm"), less_one("post_attention_layernorm"), less_one("model.norm"))
_NAMES = WeightNames(huggingface=(QKV, *_NORMS), mlc=_NORMS)


def read_nemotron(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "attention_bias")
    shape = read_attention(config, same_layers(config, style=_POSITIONS))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias)
    activation = read_activation(config, default="relu_squared")
    mlp = MLP(size(config, "intermediate_size"), activation, is_gated=False, bias=flag(config, "mlp_bias"))
    norm = read_layer_norm(config, key="norm_eps")
    return read_decoder(config, _NAMES, Block(attention, mlp, norm))
