"""Writes tiny Hugging Face checkpoints of any family with NumPy alone: random tensors, and no tokenizer."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mlc_serve.models.table import is_encoder, read_architecture, read_encoder, weight_names
from mlc_serve.models.weight_changes import Row, Transposed
from mlc_serve.models.weight_names import Part

SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2: dict[str, Any] = {"vocab_size": 48, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64}


def write_plain(
    path: Path, model_type: str, keys: dict[str, Any] | None = None, *, extra: tuple[str, ...] = ()
) -> Path:
    """Fill a directory with a checkpoint whose queries, keys and values have as many heads, with the tensors
    `extra` beside those of the model. Return the directory.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = (GPT2 if model_type == "gpt2" else SIZES) | (keys or {})
    read = read_encoder if is_encoder(model_type) else read_architecture
    names, tensors = weight_names(model_type, config), dict.fromkeys(extra, np.ones(2, np.float32))
    for name, (num_rows, *rest) in read(model_type, config).weights():
        parts = names.parts(name, "huggingface", ())
        for part in parts:
            shape = _stored_shape(part, (num_rows // len(parts), *rest))
            tensors[part.name] = _values(part.name, shape)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    return path


def _stored_shape(part: Part, rows: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor that gives such rows."""
    if isinstance(part.change, Transposed):
        return rows[::-1]
    return rows[1:] if isinstance(part.change, Row) else rows


def _values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values that float16 holds as they are."""
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return (0.1 * normal).astype(np.float16).astype(np.float32)
