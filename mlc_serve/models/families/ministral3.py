"""Ministral 3 (Mistral AI, 2025): a Mistral whose queries are multiplied by a factor that grows with their
positions.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.families.mistral import read_mistral

_SCALING = {  # where the configuration does not say
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_DEFAULTS = {"head_dim": 128, "rms_norm_eps": 1e-5}


def read_ministral3(config: Config) -> Decoder:
    """See FAMILIES."""
    stated = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    if stated.get("rope_parameters") or stated.get("rope_scaling"):
        return read_mistral(stated)
    return read_mistral({**stated, "rope_parameters": _SCALING})
