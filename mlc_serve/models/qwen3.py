"""Qwen3 (Yang et al., 2025), the dense models: a Llama that normalises each head of its queries and keys
before it rotates them. The width of a head does not depend on that of the model.
"""

from __future__ import annotations

from mlc_serve.models.architecture import Family
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.sliding_windows import read_windows
from mlc_serve.models.weight_names import decoder_names

_HEAD_DIM = 128  # where the configuration does not say


def _read(config: Config) -> Decoder:
    bias = flag(config, "attention_bias")
    sized = {**config, "head_dim": size(config, "head_dim", _HEAD_DIM)}
    read = Decoder.from_config(sized, qkv_bias=bias, o_bias=bias, head_norms=True)
    return read.with_windows(read_windows(config, read.attention.num_layers, read.context_window_size))


QWEN3 = Family(_read, decoder_names(mlc_qkv="c_attn"))
