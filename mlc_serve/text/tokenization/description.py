"""What the files of a model directory say about its tokenizer, for clients that make prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlc_serve.text.json_object import read_json_object_if_present
from mlc_serve.text.tokenization.declared_tokens import STANDARD_NAMES

_OPTIONS = (
    "tokenizer_class",
    "model_max_length",
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
)


def read_description(directory: Path) -> dict[str, Any]:
    """Return the tokenizer's class and options, and the texts of its special tokens by name (`bos_token`).

    What the files don't say is left out. Raises CheckpointError for a file that can't be read.
    """
    config = read_json_object_if_present(directory / "tokenizer_config.json")
    named = read_json_object_if_present(directory / "special_tokens_map.json") | config
    options = {name: config[name] for name in _OPTIONS if config.get(name) is not None}
    tokens = {name: _text(named.get(name)) for name in STANDARD_NAMES}
    return options | {name: text for name, text in tokens.items() if text is not None}


def _text(token: object) -> str | None:
    """Return a token's text, which is declared as such or as an object with flags."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None
