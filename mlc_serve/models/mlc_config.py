"""Reads what MLC writes about a model: its keys are mostly those of Hugging Face's config.json.

MLC's directories have the language models alone, even if a model has other parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, index, size
from mlc_serve.models.sequence_window import for_window

_MODEL_TYPES = {  # what transformers calls models for which MLC has a name of its own
    "bert-bge": "bert",
    "gemma3": "gemma3_text",
    "qwen3-embedding": "qwen3",
}
_WINDOW_KEYS = ("sliding_window_size", "attention_sink_size")


def model_type_of_mlc(model_type: str) -> str:
    """The family of a model that MLC calls `model_type`."""
    return _MODEL_TYPES.get(model_type, model_type)


def config_of_mlc(model_config: Config) -> dict[str, Any]:
    """A model_config with the keys that families read.

    What MLC says about a text part takes precedence over what it has kept of that part's own configuration.
    Sizes have names of its own, and 0 and -1 mean none. A `sliding_window_size` is that of whole sequences if
    a number of sinks is stated beside it, or no context window; else it is that of some layers.
    """
    config = {key: value for key, value in model_config.items() if key != "text_config"}
    text = model_config.get("text_config")
    if isinstance(text, Mapping):
        kept = text.get("kwargs")
        sizes = {key: value for key, value in config.items() if not _is_none(value)}
        config = {**(kept if isinstance(kept, Mapping) else {}), **text, **sizes}
    config = _with_window(config)
    if _is_none(config.get("context_window_size")):
        config.pop("context_window_size", None)
    else:
        config.setdefault("max_position_embeddings", config["context_window_size"])
    return config


def _with_window(config: Config) -> dict[str, Any]:
    """The configuration with what `sliding_window_size` and `attention_sink_size` say in keys of ours."""
    rest = {key: value for key, value in config.items() if key not in _WINDOW_KEYS}
    stated, sinks = (config.get(key) for key in _WINDOW_KEYS)
    if stated is None:
        return rest
    window = None if _is_none(stated) else size(config, "sliding_window_size")
    rest.setdefault("sliding_window", window)
    is_whole = _is_count(sinks) or _is_none(config.get("context_window_size"))
    if window is None or not is_whole:
        return rest
    num_sinks = index(config, "attention_sink_size", 0) if _is_count(sinks) else 0
    if num_sinks >= window:
        raise CheckpointError(
            f"attention_sink_size {num_sinks} is not less than sliding_window_size {window}"
        )
    return for_window(rest, SlidingWindow(window, num_sinks))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value <= 0)
