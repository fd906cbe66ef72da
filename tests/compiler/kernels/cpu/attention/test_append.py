"""Splitting and rotating queries, keys and values, against the formula and against transformers' scaled
frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mlc_serve.compiler.kernels.cpu.attention.append import append_tokens
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.models.rope import read_rope
from tests.compiler.kernels.cpu.attention.reference import PAGE_SIZE, write

POSITIONS = np.array([0, 1, 7, 100, 2000, 131071], np.int32)
SLOTS = np.array([16, 17, 5, 70, 69, 0], np.int32)
NUM_PAGES = 5
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


def turned(x: Any, angles: Any) -> Any:
    """Heads `(s, h, d)` turned by angles `(s, d / 2)`."""
    half = x.shape[-1] // 2
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


@dataclass
class Appended:
    """What the kernel has made of queries, keys and values."""

    queries: Any
    pages: Any

    @classmethod
    def by(cls, kernel: Callable[..., None], x: Any, heads: Heads) -> Appended:
        """Run a kernel. It gets longer tables than it needs."""
        queries = np.full((len(x), heads.num_q, heads.dim), np.nan, x.dtype)
        pages = np.full((NUM_PAGES, 2, heads.num_kv, PAGE_SIZE * heads.dim), np.nan, x.dtype)
        kernel(x[None], np.append(POSITIONS, POSITIONS), np.append(SLOTS, SLOTS), pages, queries)
        return cls(queries, pages)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("heads", "theta", "scaling"),
    [
        (Heads(6, 2, 64), 10000.0, None),
        (Heads(2, 2, 18), 500000.0, None),
        (Heads(4, 1, 128), 500000.0, LLAMA3),
        (Heads(2, 1, 48), 10000.0, {"rope_type": "linear", "factor": 4.0}),
    ],
)
def test_q_and_k_turn_by_their_positions(
    build: Callable[..., Any], heads: Heads, theta: float, scaling: dict[str, Any] | None, dtype: str
) -> None:
    """Queries and keys are rotated, values are not, and both keys and values go to their slots only."""
    rope = read_rope({"rope_theta": theta, "rope_scaling": scaling, "max_position_embeddings": 4096})
    x = np.random.default_rng(0).standard_normal((len(POSITIONS), heads.num_q + 2 * heads.num_kv, heads.dim))
    x = x.astype(dtype)

    got = Appended.by(build(append_tokens(heads, rope, dtype)), x, heads)

    q, k, v = np.split(x, (heads.num_q, heads.num_q + heads.num_kv), 1)
    angles = POSITIONS[:, None] * frequencies(heads.dim, theta, scaling).astype(np.float64)
    rounding = {"float32": 1e-5, "float16": 4e-3}[dtype]
    theirs = 0 if scaling is None else 4e-7 * 131071  # transformers has scaled frequencies in float32
    np.testing.assert_allclose(got.queries, turned(q, angles), rtol=0, atol=rounding + theirs)
    expected = np.full_like(got.pages, np.nan)
    write(expected, turned(k, angles).astype(dtype), v, SLOTS)
    np.testing.assert_allclose(got.pages, expected, rtol=0, atol=rounding + theirs)


def test_without_positions_nothing_turns(build: Callable[..., Any]) -> None:
    """Queries, keys and values are what they were."""
    heads = Heads(3, 1, 20)
    x = np.random.default_rng(0).standard_normal((len(POSITIONS), 5, 20), dtype=np.float32)

    got = Appended.by(build(append_tokens(heads, None, "float32")), x, heads)

    expected = np.full_like(got.pages, np.nan)
    write(expected, x[:, 3:4], x[:, 4:], SLOTS)
    np.testing.assert_array_equal(got.queries, x[:, :3])
    np.testing.assert_array_equal(got.pages, expected)
