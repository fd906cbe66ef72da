"""Every architecture that can be served, by the model_type of its config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Callable

from mlc_serve.errors import CheckpointError
from mlc_serve.models import qwen2
from mlc_serve.models.config_values import Config, flag
from mlc_serve.models.llama_config import LlamaConfig


def _read_llama(config: Config) -> LlamaConfig:
    bias = flag(config, "attention_bias")
    return LlamaConfig.from_dict(config, qkv_bias=bias, o_bias=bias, mlp_bias=flag(config, "mlp_bias"))


ARCHITECTURES: dict[str, Callable[[Config], LlamaConfig]] = {
    "llama": _read_llama,
    "qwen2": qwen2.read_config,
}


def read_config(model_type: str, config: Config) -> LlamaConfig:
    """The model's dimensions. Raises CheckpointError for an architecture that is not in the table, and as
    LlamaConfig does.
    """
    if model_type not in ARCHITECTURES:
        supported = ", ".join(sorted(ARCHITECTURES))
        raise CheckpointError(
            f"model_type {reprlib.repr(model_type)} is not supported; supported are {supported}"
        )
    return ARCHITECTURES[model_type](config)
