"""Gemma 3 in a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.family_checkpoints import write_family
from tests.gguf_files import assert_same_model, write_gguf


def test_gemma_3_is_the_model_of_its_directory(tmp_path: Path) -> None:
    """With the norms that transformers has, and the window of most of its layers."""
    keys: dict[str, Any] = {"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32}
    more = {"num_hidden_layers": 7, "tie_word_embeddings": True}
    write_family(tmp_path / "directory", "gemma3_text", {**keys, **more})
    assert_same_model(write_gguf(tmp_path / "directory", tmp_path / "model.gguf"), tmp_path / "directory")
