"""Llama (Touvron et al., 2023). Its configuration may ask for biases."""

from __future__ import annotations

from mlc_serve.models.architecture import Family
from mlc_serve.models.config_values import Config, flag
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.weight_names import decoder_names


def _read(config: Config) -> Decoder:
    bias = flag(config, "attention_bias")
    return Decoder.from_config(config, qkv_bias=bias, o_bias=bias, mlp_bias=flag(config, "mlp_bias"))


LLAMA = Family(_read, decoder_names(mlc_qkv="qkv_proj"))
