"""Writes small Medusa heads as they are published, and models and heads whose guesses are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.checkpoints import Shape, write_checkpoint

Tensors = dict[str, NDArray[Any]]
# What a published configuration says, whatever the heads are.
CONFIG = {"medusa_num_heads": 2, "medusa_num_layers": 1, "base_model_name_or_path": "some/model"}
CHAIN = Shape(vocab_size=512, hidden_size=64, num_layers=2)


def random_heads(
    num_heads: int = 3, num_blocks: int = 1, hidden: int = 64, vocab: int = 512, seed: int = 0
) -> Tensors:
    """The tensors of heads with random weights, by their published names."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    tensors: Tensors = {}
    for head in range(num_heads):
        for block in range(num_blocks):
            tensors[f"{head}.{block}.linear.weight"] = normal(hidden, hidden) * hidden**-0.5
            tensors[f"{head}.{block}.linear.bias"] = normal(hidden) * np.float32(0.3)
        tensors[f"{head}.{num_blocks}.weight"] = normal(vocab, hidden) * hidden**-0.5
    return tensors


def write_heads(path: Path, tensors: Tensors, **config: Any) -> Path:
    """Fill a directory with heads, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    save_file(tensors, path / "medusa_lm_head.safetensors")
    return path


def following(token: int, distance: int = 1) -> int:
    """The token that `write_chain`'s model generates `distance` tokens after another one."""
    for _ in range(distance):
        token = (token * 5 + 7) % CHAIN.vocab_size
    return token


def write_chain(path: Path) -> Path:
    """Write a model whose layers add little to a token's embedding, from which its head knows the token that
    follows.
    """
    write_checkpoint(path, CHAIN, seed=5)
    tensors = load_file(path / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name] = tensor * np.float32(0.01)
    tensors["lm_head.weight"] = _knowing(tensors["model.embed_tokens.weight"], 1)
    save_file(tensors, path / "model.safetensors")
    return path


def knowing_heads(chain: Path, distances: Sequence[int]) -> Tensors:
    """Heads for the model of `write_chain`: each guesses the token at one of the distances from the last
    token that is computed. Head 0 is right with distance 2, head 1 with 3, and so on.
    """
    embeddings = load_file(chain / "model.safetensors")["model.embed_tokens.weight"]
    tensors = random_heads(len(distances))
    for head, distance in enumerate(distances):
        tensors[f"{head}.0.linear.weight"][:] = 0
        tensors[f"{head}.0.linear.bias"][:] = 0
        tensors[f"{head}.1.weight"] = _knowing(embeddings, distance)
    return tensors


def _knowing(embeddings: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """Rows of which that of the token `following(t, distance)` is like the embedding of t."""
    rows = np.empty_like(embeddings)
    for token, row in enumerate(embeddings):
        rows[following(token, distance)] = 4 * row / np.linalg.norm(row)
    return rows
