"""Qwen2: Llama with biases on the QKV product (Yang et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_serve.models.llama import LlamaConfig


def read_config(config: Mapping[str, Any]) -> LlamaConfig:
    """config.json of a Qwen2 checkpoint. Raises CheckpointError as LlamaConfig does."""
    return LlamaConfig.from_dict(config, qkv_bias=True)
