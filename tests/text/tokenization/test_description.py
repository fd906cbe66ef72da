"""What is told about a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from mlc_serve.text.tokenization.description import read_description


def test_options_and_special_tokens_are_told(tmp_path: Path) -> None:
    """Tokens may be declared as objects or in a second file, which tokenizer_config.json overrides."""
    config = {
        "tokenizer_class": "X",
        "add_bos_token": True,
        "bos_token": {"content": "<s>"},
        "chat_template": "-",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<b>", "eos_token": "</s>"}))
    assert read_description(tmp_path) == {
        "tokenizer_class": "X",
        "add_bos_token": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }


def test_a_directory_without_these_files_tells_nothing(tmp_path: Path) -> None:
    """Neither file is needed."""
    assert read_description(tmp_path) == {}
