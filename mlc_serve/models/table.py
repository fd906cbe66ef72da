"""Every architecture that can be served, by the model_type of its config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlc_serve.errors import CheckpointError
from mlc_serve.models import qwen2
from mlc_serve.models.llama import LlamaConfig


def _read_llama(config: Mapping[str, Any]) -> LlamaConfig:
    bias = bool(config.get("attention_bias", False))
    return LlamaConfig.from_dict(config, qkv_bias=bias, o_bias=bias)


ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], LlamaConfig]] = {
    "llama": _read_llama,
    "qwen2": qwen2.read_config,
}


def read_config(model_type: str, config: Mapping[str, Any]) -> LlamaConfig:
    """The model's dimensions. Raises CheckpointError for an architecture that is not in the table."""
    if model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"architecture {model_type!r} is not supported; supported are {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[model_type](config)
