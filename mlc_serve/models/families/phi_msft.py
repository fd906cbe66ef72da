"""Phi-1.5 and Phi-2 as they were first published, and as MLC knows them: the same models as Phi, with other
names of keys and weights.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.families.phi import MLC_MODULES, read_phi
from mlc_serve.models.weight_names import WeightNames, renamed

_KEYS = {  # what Phi calls them
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_key_value_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation_function": "hidden_act",
}
_ROTARY_DIM = 32  # where the configuration does not say
_NAMES = WeightNames(
    huggingface=(renamed("model.embed_tokens", "transformer.embd.wte"), *MLC_MODULES), mlc=MLC_MODULES
)


def read_phi_msft(config: Config) -> Decoder:
    """See FAMILIES."""
    width, num_heads = size(config, "n_embd"), size(config, "n_head")
    head_dim = size(config, "head_dim", max(width // num_heads, 1))
    named = {own: config[key] for key, own in _KEYS.items() if config.get(key) is not None}
    parts = {"partial_rotary_factor": size(config, "rotary_dim", _ROTARY_DIM) / head_dim}
    return read_phi({"intermediate_size": 4 * width, **config, **named, **parts}, _NAMES)
