"""The names and shapes of the tensors with which EAGLE-1 and Medusa are published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

Shapes = dict[str, tuple[int, ...]]


def stored_shapes(directory: Path) -> Shapes:
    """The tensors of a directory; all of them are float16."""
    with safe_open(directory / "model.safetensors", "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {part.get_dtype() for part in slices.values()} == {"F16"}
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


def config_of(directory: Path) -> dict[str, Any]:
    """The config.json of a directory."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config


def eagle_shapes(config: Mapping[str, Any]) -> Shapes:
    """What an EAGLE-1 head of a configuration has, if its embeddings are the target's."""
    hidden, feed_forward = config["hidden_size"], config["intermediate_size"]
    wide = config["num_attention_heads"] * config["head_dim"]
    narrow = config["num_key_value_heads"] * config["head_dim"]
    return {
        "fc.weight": (hidden, 2 * hidden),
        "fc.bias": (hidden,),
        "layers.0.self_attn.q_proj.weight": (wide, hidden),
        "layers.0.self_attn.k_proj.weight": (narrow, hidden),
        "layers.0.self_attn.v_proj.weight": (narrow, hidden),
        "layers.0.self_attn.o_proj.weight": (hidden, wide),
        "layers.0.mlp.gate_proj.weight": (feed_forward, hidden),
        "layers.0.mlp.up_proj.weight": (feed_forward, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, feed_forward),
        "layers.0.post_attention_layernorm.weight": (hidden,),
    }


def medusa_shapes(config: Mapping[str, Any]) -> Shapes:
    """What Medusa heads of a configuration have."""
    hidden, num_layers = config["hidden_size"], config["medusa_num_layers"]
    shapes: Shapes = {}
    for head in range(config["medusa_num_heads"]):
        for layer in range(num_layers):
            shapes[f"medusa_head.{head}.{layer}.linear.weight"] = (hidden, hidden)
            shapes[f"medusa_head.{head}.{layer}.linear.bias"] = (hidden,)
        shapes[f"medusa_head.{head}.{num_layers}.weight"] = (config["vocab_size"], hidden)
    return shapes
