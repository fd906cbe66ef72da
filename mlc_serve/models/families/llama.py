"""Llama (Touvron et al., 2023). Its configuration may ask for biases."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import decoder_names


def read_llama(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "attention_bias")
    attention = Attention(read_attention(config, same_layers(config)), qkv_bias=bias, o_bias=bias)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config), bias=flag(config, "mlp_bias"))
    return read_decoder(config, decoder_names("qkv_proj"), Block(attention, mlp, read_norm(config)))
