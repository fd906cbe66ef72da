"""Rotary position embedding, against the formula and against transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.ministral3.modeling_ministral3 import get_llama_4_attn_scale

from mlc_serve.compiler.kernels.cpu.attention.rotary import split_rotary
from mlc_serve.models.rope import QueryScaling, Rope
from mlc_serve.models.rope_scaling import LinearScaling, Llama3Scaling, LongRopeScaling, YarnScaling
from tests.compiler.conftest import Build

POSITIONS = np.array([0, 1, 7, 100, 2000, 131071], np.int32)
ROUNDING = {"float32": 1e-5, "float16": 1e-2}

Heads = NDArray[np.float64]


def turned(heads: Heads, rope: Rope) -> Heads:
    """Heads `(s, h, d)` of tokens at POSITIONS, by the formula."""
    count = rope.dimensions(heads.shape[-1])
    angles = POSITIONS[:, None, None] * rope.frequencies(heads.shape[-1])
    cosine, sine = np.cos(angles) * rope.attention_factor, np.sin(angles) * rope.attention_factor
    first, second, rest = np.split(heads, [count // 2, count], axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], -1)


def query_scale(scaling: QueryScaling | None) -> Heads:
    """What transformers multiplies queries with, `(s, 1, 1)`."""
    if scaling is None:
        return np.ones((len(POSITIONS), 1, 1))
    positions = torch.from_numpy(POSITIONS)[None].double()
    scales: Heads = get_llama_4_attn_scale(positions, scaling.beta, scaling.window).numpy()
    return np.moveaxis(scales[0], 0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("num_q", "num_kv", "head_dim", "rope"),
    [
        (6, 2, 64, Rope(10000.0)),
        (2, 2, 18, Rope(500000.0)),
        (4, 1, 128, Rope(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 256))),
        (2, 1, 48, Rope(10000.0, LinearScaling(4.0))),
        (2, 1, 80, Rope(10000.0, rotary_dim=20)),
        (2, 1, 96, Rope(10000.0, rotary_dim=24)),
        (2, 1, 32, Rope(10000.0, rotary_dim=2)),
        (2, 2, 20, Rope(10000.0, LongRopeScaling((1.0, 1.5, 4.0), 1.19, 4096, False), 6)),
        (4, 2, 64, Rope(1e6, YarnScaling(16.0, 1024, 1.277), None, QueryScaling(0.1, 1000))),
        (3, 1, 40, Rope(1e4, None, 12, QueryScaling(0.1, 100))),
        (3, 2, 40, None),
    ],
)
def test_q_and_k_turn_by_their_positions(
    build: Build, num_q: int, num_kv: int, head_dim: int, rope: Rope | None, dtype: str
) -> None:
    """As many of their dimensions as are to be. The others, and V, are not, and without rope nothing is.
    Queries are scaled by their positions if that is asked for, and keys are not.
    """
    kernel = build(split_rotary(num_q, num_kv, head_dim, rope, dtype))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((len(POSITIONS), num_q + 2 * num_kv, head_dim)).astype(dtype)
    parts = [np.full((len(POSITIONS), n, head_dim), np.nan, dtype) for n in (num_q, num_kv, num_kv)]

    kernel(x, POSITIONS, *parts, 1)

    heads = np.split(x.astype(np.float64), [num_q, num_q + num_kv], axis=1)
    if rope is not None:
        heads[:2] = turned(heads[0], rope) * query_scale(rope.query_scaling), turned(heads[1], rope)
    for part, expected in zip(parts, heads, strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=ROUNDING[dtype])
    np.testing.assert_array_equal(parts[2], x[:, num_q + num_kv :])
