"""Qwen2: Llama with biases on the QKV product (Yang et al., 2024)."""

from __future__ import annotations

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.llama_config import LlamaConfig


def read_config(config: Config) -> LlamaConfig:
    """config.json of a Qwen2 checkpoint. Raises CheckpointError as LlamaConfig does, and for layers that
    attend to a window.
    """
    read = LlamaConfig.from_dict(config, qkv_bias=True)
    if flag(config, "use_sliding_window") and _has_windows(config, read):
        raise CheckpointError("use_sliding_window is not supported")
    return read


def _has_windows(config: Config, read: LlamaConfig) -> bool:
    """Whether some layer would attend to less than the whole context."""
    if config.get("sliding_window", 4096) is None:
        return False
    first = size(config, "max_window_layers", 28) if config.get("max_window_layers") != 0 else 0
    window = size(config, "sliding_window", 4096)
    return first < read.attention.num_layers and window < read.context_window_size
