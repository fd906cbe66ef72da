"""Qwen2 (Yang et al., 2024): a Llama whose queries, keys and values have biases."""

from __future__ import annotations

from mlc_serve.models.architecture import Family
from mlc_serve.models.config_values import Config
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.sliding_windows import read_windows
from mlc_serve.models.weight_names import decoder_names


def _read(config: Config) -> Decoder:
    read = Decoder.from_config(config, qkv_bias=True)
    return read.with_windows(read_windows(config, read.attention.num_layers, read.context_window_size))


QWEN2 = Family(_read, decoder_names(mlc_qkv="c_attn"))
