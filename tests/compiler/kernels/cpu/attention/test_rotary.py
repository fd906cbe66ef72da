"""Rotary position embedding, against the formula and against transformers' scaled frequencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mlc_serve.compiler.kernels.cpu.attention.rotary import split_rotary
from mlc_serve.models.rope_config import read_rope

POSITIONS = np.array([0, 1, 7, 100, 2000, 131071], np.int32)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def frequencies(head_dim: int, theta: float, scaling: dict[str, Any] | None) -> Any:
    """The angle by which one position turns each pair of dimensions, according to transformers."""
    if scaling is None:
        return theta ** -(np.arange(0, head_dim, 2) / head_dim)
    config = LlamaConfig(
        hidden_size=head_dim, num_attention_heads=1, rope_parameters={**scaling, "rope_theta": theta}
    )
    inverse, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, device="cpu")
    assert factor == 1
    return inverse.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("num_q", "num_kv", "head_dim", "theta", "scaling"),
    [
        (6, 2, 64, 10000.0, None),
        (2, 2, 18, 500000.0, None),
        (4, 1, 128, 500000.0, LLAMA3),
        (2, 1, 48, 10000.0, {"rope_type": "linear", "factor": 4.0}),
    ],
)
def test_q_and_k_turn_by_their_positions(
    build: Callable[..., Any],
    num_q: int,
    num_kv: int,
    head_dim: int,
    theta: float,
    scaling: dict[str, Any] | None,
    dtype: str,
) -> None:
    """Q and K are rotated and V is not. With rope switched off, nothing is."""
    rope = read_rope({"rope_theta": theta, "rope_scaling": scaling, "max_position_embeddings": 4096})
    kernel = build(split_rotary(num_q, num_kv, head_dim, rope, dtype))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((len(POSITIONS), num_q + 2 * num_kv, head_dim)).astype(dtype)
    parts = [np.full((len(POSITIONS), n, head_dim), np.nan, dtype) for n in (num_q, num_kv, num_kv)]

    kernel(x, POSITIONS, *parts, 1)

    half = head_dim // 2
    angles = POSITIONS[:, None] * frequencies(head_dim, theta, scaling).astype(np.float64)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    turned = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
    rounding = {"float32": 1e-5, "float16": 4e-3}[dtype]
    theirs = 0 if scaling is None else 4e-7 * POSITIONS  # transformers has scaled frequencies in float32
    tolerance = np.broadcast_to(rounding + theirs, POSITIONS.shape)[:, None, None]
    assert (np.abs(parts[0] - turned[:, :num_q]) < tolerance).all()
    assert (np.abs(parts[1] - turned[:, num_q : num_q + num_kv]) < tolerance).all()
    np.testing.assert_array_equal(parts[2], x[:, num_q + num_kv :])

    kernel(x, POSITIONS, *parts, 0)
    np.testing.assert_array_equal(np.concatenate(parts, 1), x)
