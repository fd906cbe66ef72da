"""The names and shapes of the weights with which EAGLE-1 and Medusa are published, and how ours are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.quantization.packed import repacked
from mlc_serve.quantization.scheme import CPU_DEFAULT, SCHEMES

Shapes = dict[str, tuple[int, ...]]


def stored_shapes(directory: Path) -> Shapes:
    """The weights of a directory."""
    tensors = open_checkpoint(directory).tensors
    return {name: tensors.shape(name) for name in tensors.names}


def assert_kept_as_stored(directory: Path) -> None:
    """Check that all matrices are integers that nothing rounds again for the CPU, unless another scheme than
    its own is asked for, and that all other weights are float16.
    """
    tensors, form = open_checkpoint(directory).tensors, SCHEMES[CPU_DEFAULT].groups
    assert form is not None
    for name in tensors.names:
        packed = tensors.packed(name)
        if packed is None:
            assert tensors.tensor(name).dtype == np.float16
            assert len(tensors.shape(name)) == 1
        else:
            kept = repacked(packed, form)
            np.testing.assert_array_equal(kept.stored[:, : packed.integers.shape[1]], packed.integers)
            np.testing.assert_array_equal(kept.scale, packed.scale)


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
