"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Abdin et al., 2024): a Llama whose checkpoints store fused products,
with long contexts by two lists of rotary factors.
"""

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
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_names import WeightNames, renamed

_POSITIONS = RopeStyle(part=1.0)
_NAMES = WeightNames(
    mlc=(
        renamed("model.embed_tokens", "transformer.embd"),
        renamed("model.norm", "transformer.norm"),
        renamed("model.layers", "transformer.h"),
        renamed("input_layernorm", "ln"),
        renamed("self_attn.qkv_proj", "mixer.qkv_proj"),
        renamed("self_attn.o_proj", "mixer.out_proj"),
    )
)


def read_phi3(config: Config) -> Decoder:
    """See FAMILIES."""
    windows = window_of_all(config)
    attention = Attention(read_attention(config, same_layers(config, windows, _POSITIONS)))
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    return read_decoder(config, _NAMES, Block(attention, mlp, read_norm(config, default=1e-5)))
