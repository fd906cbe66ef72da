"""Splitting and rotating queries, keys and values, against the formula and against transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.ministral3.modeling_ministral3 import get_llama_4_attn_scale

from mlc_serve.compiler.kernels.cpu.attention.append import append_tokens
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.models.rope import QueryScaling, Rope
from mlc_serve.models.rope_scaling import LinearScaling, Llama3Scaling, LongRopeScaling, YarnScaling
from tests.compiler.conftest import Build, Kernel
from tests.compiler.kernels.cpu.attention.reference import PAGE_SIZE, write, write_latents

POSITIONS = np.array([0, 1, 7, 100, 2000, 131071], np.int32)
SLOTS = np.array([16, 17, 5, 70, 69, 0], np.int32)
NUM_PAGES = 5
ROUNDING = {"float32": 1e-5, "float16": 1e-2}

Values = NDArray[Any]


def turned(heads: Values, rope: Rope) -> Values:
    """Heads `(s, h, d)` of tokens at POSITIONS, by the formula."""
    count = rope.dimensions(heads.shape[-1])
    angles = POSITIONS[:, None, None] * rope.frequencies(heads.shape[-1])
    cosine, sine = np.cos(angles) * rope.attention_factor, np.sin(angles) * rope.attention_factor
    first, second, rest = np.split(heads, [count // 2, count], axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], -1)


def query_scale(scaling: QueryScaling | None) -> Values:
    """What transformers multiplies queries with, `(s, 1, 1)`."""
    if scaling is None:
        return np.ones((len(POSITIONS), 1, 1))
    positions = torch.from_numpy(POSITIONS)[None].double()
    factors = get_llama_4_attn_scale(positions, scaling.beta, scaling.window)
    scales: Values = factors.numpy()[0].transpose(1, 0, 2)
    return scales


@dataclass
class Appended:
    """What the kernel has made of queries, keys and values."""

    queries: Values
    pages: Values

    @classmethod
    def by(cls, kernel: Kernel, x: Values, heads: Heads) -> Appended:
        """Run a kernel. It gets longer tables than it needs."""
        queries = np.full((len(x), heads.num_q, heads.dim), np.nan, x.dtype)
        pages = np.full((NUM_PAGES, 2, heads.num_kv, PAGE_SIZE * heads.dim), np.nan, x.dtype)
        kernel(x[None], np.append(POSITIONS, POSITIONS), np.append(SLOTS, SLOTS), pages, queries)
        return cls(queries, pages)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("heads", "rope"),
    [
        (Heads(6, 2, 64), Rope(10000.0)),
        (Heads(2, 2, 18), Rope(500000.0)),
        (Heads(4, 1, 128), Rope(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 256))),
        (Heads(2, 1, 48), Rope(10000.0, LinearScaling(4.0))),
        (Heads(2, 1, 80), Rope(10000.0, rotary_dim=20)),
        (Heads(2, 1, 96), Rope(10000.0, rotary_dim=24)),
        (Heads(2, 1, 32), Rope(10000.0, rotary_dim=2)),
        (Heads(2, 2, 20), Rope(10000.0, LongRopeScaling((1.0, 1.5, 4.0), 1.19, 4096, False), 6)),
        (Heads(4, 2, 64), Rope(1e6, YarnScaling(16.0, 1024, 1.277), None, QueryScaling(0.1, 1000))),
        (Heads(3, 1, 40), Rope(1e4, None, 12, QueryScaling(0.1, 100))),
        (Heads(3, 2, 40), None),
    ],
)
def test_q_and_k_turn_by_their_positions(build: Build, heads: Heads, rope: Rope | None, dtype: str) -> None:
    """As many of their dimensions as are to be. The others, and V, are not, and without rope nothing is.
    Queries are scaled by their positions if that is asked for, and keys are not. Keys and values go to their
    slots only.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((len(POSITIONS), heads.num_q + 2 * heads.num_kv, heads.dim)).astype(dtype)

    got = Appended.by(build(append_tokens(heads, rope, dtype, Visible())), x, heads)

    q, k, v = np.split(x.astype(np.float64), [heads.num_q, heads.num_q + heads.num_kv], axis=1)
    if rope is not None:
        q, k = turned(q, rope) * query_scale(rope.query_scaling), turned(k, rope)
    np.testing.assert_allclose(got.queries, q, rtol=0, atol=ROUNDING[dtype])
    expected = np.full_like(got.pages, np.nan)
    write(expected, k, v, SLOTS)
    np.testing.assert_allclose(got.pages, expected, rtol=0, atol=ROUNDING[dtype])
    np.testing.assert_array_equal(got.pages[:, 1], expected[:, 1])


def test_a_latent_key_lies_in_one_piece(build: Build) -> None:
    """It turns at its beginning, and there is no value beside it."""
    heads, rope = Heads(3, 1, 40, latent=24), Rope(10000.0, rotary_dim=16)
    x = np.random.default_rng(0).standard_normal((len(POSITIONS), heads.num_new, heads.dim), np.float32)
    queries = np.full((len(x), heads.num_q, heads.dim), np.nan, x.dtype)
    pages = np.full((NUM_PAGES, 1, 1, PAGE_SIZE * heads.dim), np.nan, x.dtype)

    build(append_tokens(heads, rope, "float32", Visible()))(x[None], POSITIONS, SLOTS, pages, queries)

    q, k = np.split(turned(x, rope), [heads.num_q], axis=1)
    np.testing.assert_allclose(queries, q, rtol=0, atol=ROUNDING["float32"])
    expected = np.full_like(pages, np.nan)
    write_latents(expected, k, SLOTS)
    np.testing.assert_allclose(pages, expected, rtol=0, atol=ROUNDING["float32"])
