"""Rotary positions on GPUs: what TVM's kernel makes of its arguments, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm import tirx
from tvm.relax.frontend.nn.llm.position_embedding import llama_rope_with_position_map

from mlc_serve.compiler.layers.gpu_rope import describe, rope_arguments
from mlc_serve.errors import CheckpointError
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.rope import QueryScaling, Rope
from mlc_serve.models.rope_scaling import LinearScaling, Llama3Scaling, LongRopeScaling, YarnScaling
from tests.compiler.conftest import Build

POSITIONS = np.array([0, 1, 7, 100, 2000, 4095], np.int32)
HEADS = (4, 2)


def theirs(rope: Rope, head_dim: int) -> tirx.PrimFunc:
    """TVM's kernel."""
    arguments = describe(rope, head_dim)
    return llama_rope_with_position_map(
        arguments["rope_theta"],
        arguments["rope_scale"],
        head_dim,
        *HEADS,
        "float32",
        arguments["rope_scaling"],
        arguments["rotary_dim"],
    )


@pytest.mark.parametrize(
    ("head_dim", "rope"),
    [
        (64, Rope(10000.0)),
        (80, Rope(10000.0, LinearScaling(2.5), 20)),
        (64, Rope(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 256))),
    ],
)
def test_tvm_rotates_as_we_do(build: Build, head_dim: int, rope: Rope) -> None:
    """Whatever the scaling, and the part that is rotated."""
    x = np.random.default_rng(0).standard_normal((len(POSITIONS), 8, head_dim), np.float32)
    parts = [np.zeros((len(POSITIONS), n, head_dim), np.float32) for n in (4, 2, 2)]
    build(theirs(rope, head_dim))(x, POSITIONS, *parts, 1)
    expected = np.concatenate([rotated(x[:, :6], rope), x[:, 6:]], axis=1)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=0, atol=3e-3)  # float32 angles


def rotated(x: NDArray[np.float32], rope: Rope) -> NDArray[np.float64]:
    """X `(n, h, d)` of the tokens at POSITIONS."""
    count = rope.dimensions(x.shape[2])
    angles = (POSITIONS[:, None] * rope.frequencies(x.shape[2]))[:, None]
    first, second = x[..., : count // 2].astype(np.float64), x[..., count // 2 : count].astype(np.float64)
    turned = [
        first * np.cos(angles) - second * np.sin(angles),
        second * np.cos(angles) + first * np.sin(angles),
    ]
    return np.concatenate([*turned, x[..., count:]], axis=-1)


@pytest.mark.parametrize(
    ("ropes", "message"),
    [
        ((Rope(1e4), Rope(1e6)), "different rotary positions"),
        ((Rope(1e4), None), "different rotary positions"),
        ((Rope(1e4, None, None, QueryScaling(0.1, 64)),), "llama_4_scaling_beta"),
        ((Rope(1e4, YarnScaling(4.0, 64, 1.1)),), "'yarn' is available only on the CPU"),
        (
            (Rope(1e4, LongRopeScaling((1.0,) * 32, 1.1, 64, False)),),
            "'longrope' is available only",
        ),
    ],
)
def test_what_tvm_has_not_is_refused(ropes: tuple[Rope | None, ...], message: str) -> None:
    """By name."""
    shape = AttentionShape(*HEADS, 64, tuple(AttentionLayer(rope) for rope in ropes), 0.125)
    with pytest.raises(CheckpointError, match=message):
        rope_arguments(shape)
