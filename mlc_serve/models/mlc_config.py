"""Reads what MLC writes about a model: its keys are mostly those of Hugging Face's config.json.

MLC's directories have the language models alone, even if a model has other parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_serve.models.config_values import Config

_MODEL_TYPES = {  # what transformers calls models for which MLC has a name of its own
    "bert-bge": "bert",
    "gemma3": "gemma3_text",
    "qwen3-embedding": "qwen3",
}


def model_type_of_mlc(model_type: str) -> str:
    """The family of a model that MLC calls `model_type`."""
    return _MODEL_TYPES.get(model_type, model_type)


def config_of_mlc(model_config: Config) -> dict[str, Any]:
    """A model_config with the keys that families read.

    What MLC says about a text part takes precedence over what it has kept of that part's own configuration.
    Sizes have names of its own, and 0 and -1 mean none.
    """
    config = {key: value for key, value in model_config.items() if key != "text_config"}
    text = model_config.get("text_config")
    if isinstance(text, Mapping):
        kept = text.get("kwargs")
        sizes = {key: value for key, value in config.items() if not _is_none(value)}
        config = {**(kept if isinstance(kept, Mapping) else {}), **text, **sizes}
    if not _is_none(config.get("sliding_window_size")):
        config.setdefault("sliding_window", config["sliding_window_size"])
    if _is_none(config.get("context_window_size")):
        config.pop("context_window_size", None)
    else:
        config.setdefault("max_position_embeddings", config["context_window_size"])
    return config


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value <= 0)
