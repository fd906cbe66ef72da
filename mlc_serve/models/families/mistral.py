"""Mistral (Jiang et al., 2023): a Llama whose layers may all have a sliding window."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import (
    read_attention,
    read_decoder,
    read_norm,
    same_layers,
)
from mlc_serve.models.layer_types import window_of_all
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import decoder_names


def read_mistral(config: Config) -> Decoder:
    """See FAMILIES."""
    windows = window_of_all({"sliding_window": 4096, **config})
    attention = Attention(read_attention(config, same_layers(config, windows)))
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    return read_decoder(config, decoder_names("qkv_proj"), Block(attention, mlp, read_norm(config)))
