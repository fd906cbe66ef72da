"""SmolLM3 (Bakouch et al., 2025): a Llama some of whose layers have no positions."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, index, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, read_num_layers
from mlc_serve.models.layer_types import FULL, SLIDING, read_layer_types, windows_of
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionLayer
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope import Rope
from mlc_serve.models.rope_config import RopeStyle, read_ropes
from mlc_serve.models.weight_names import decoder_names

_POSITIONS = RopeStyle(theta=2e6)
_INTERVAL = 4  # of layers without positions, where the configuration does not say


def read_smollm3(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "attention_bias")
    attention = Attention(read_attention(config, _layers(config)), qkv_bias=bias, o_bias=bias)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config), bias=flag(config, "mlp_bias"))
    head = Head(is_tied=flag(config, "tie_word_embeddings", default=True))
    return read_decoder(
        config, decoder_names("qkv_proj"), Block(attention, mlp, read_norm(config)), head=head
    )


def _layers(config: Config) -> list[AttentionLayer]:
    """Without a list of types, the layers without positions are those with a window, if there is one."""
    stated = {**config, "no_rope_layer_interval": index(config, "no_rope_layer_interval", _INTERVAL)}
    ropes = read_ropes(stated, [FULL] * read_num_layers(config), _POSITIONS)
    windows = windows_of(config, _types(config, ropes))
    return [AttentionLayer(rope, window) for rope, window in zip(ropes, windows, strict=True)]


def _types(config: Config, ropes: tuple[Rope | None, ...]) -> list[str]:
    if config.get("layer_types") is not None:
        return read_layer_types(config)
    is_windowed = flag(config, "use_sliding_window") and config.get("sliding_window") is not None
    return [SLIDING if is_windowed and rope is None else FULL for rope in ropes]
