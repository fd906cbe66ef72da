"""Keys of a configuration that change what a model computes, and that no family here follows."""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config

_NEUTRAL = {  # the value that changes nothing; so does null
    "add_cross_attention": False,
    "alibi": False,
    "attention_chunk_size": None,
    "clip_qkv": None,
    "is_causal": True,
    "is_encoder_decoder": False,
    "use_alibi": False,
    "use_bidirectional_attention": False,
}


def refuse_unsupported_keys(config: Config) -> None:
    """Raise CheckpointError for the first key that asks for something else."""
    for key, neutral in _NEUTRAL.items():
        value = config.get(key)
        if value is not None and value != neutral:
            raise CheckpointError(f"{key} {reprlib.repr(value)} is not supported")
