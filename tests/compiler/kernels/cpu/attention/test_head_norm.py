"""The norms of queries and keys, against those of the models that have them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.stablelm.modeling_stablelm import StableLmLayerNormPerHead

from mlc_serve.compiler.kernels.cpu.attention.head_norm import head_norm
from mlc_serve.models.parts.head_norm import HeadNorm
from tests.compiler.conftest import Build

EPSILON = 1e-5
NUM_Q, NUM_KV = 4, 2

Heads = torch.Tensor  # (s, h, d)
Norm = Callable[[Heads, torch.Tensor, torch.Tensor], Heads]


def applied(module: torch.nn.Module, x: Heads, **parameters: torch.Tensor) -> Heads:
    """What the module makes of `x` with these parameters."""
    module.load_state_dict(parameters)
    result: Heads = module.double()(x)
    return result


def qwen3(x: Heads, weight: torch.Tensor, _bias: torch.Tensor) -> Heads:
    """One RMSNorm for all heads; Gemma 3 does the same."""
    return applied(Qwen3RMSNorm(x.shape[-1], EPSILON), x, weight=weight)


def olmo2(x: Heads, weight: torch.Tensor, _bias: torch.Tensor) -> Heads:
    """One RMSNorm over all heads."""
    return applied(Olmo2RMSNorm(x[0].numel(), EPSILON), x.flatten(1), weight=weight).reshape(x.shape)


def cohere(x: Heads, weight: torch.Tensor, _bias: torch.Tensor) -> Heads:
    """A LayerNorm without bias, with a weight for each head."""
    return applied(CohereLayerNorm(tuple(x.shape[1:]), EPSILON), x, weight=weight)


def stablelm(x: Heads, weight: torch.Tensor, _bias: torch.Tensor) -> Heads:
    """A LayerNorm without bias for each head."""
    weights = {f"norms.{head}.weight": row for head, row in enumerate(weight)}
    norm = StableLmLayerNormPerHead(x.shape[2], x.shape[1], EPSILON)
    return applied(norm, x.transpose(0, 1)[None], **weights)[0].transpose(0, 1)


def phi(x: Heads, weight: torch.Tensor, bias: torch.Tensor) -> Heads:
    """One LayerNorm with bias for all heads."""
    return applied(torch.nn.LayerNorm(x.shape[-1], EPSILON), x, weight=weight, bias=bias)


NORMS: dict[str, tuple[HeadNorm, Norm]] = {
    "qwen3": (HeadNorm("rms", EPSILON), qwen3),
    "olmo2": (HeadNorm("rms", EPSILON, "all_heads"), olmo2),
    "cohere": (HeadNorm("layer", EPSILON, "each_head"), cohere),
    "stablelm": (HeadNorm("layer", EPSILON, "each_head"), stablelm),
    "phi": (HeadNorm("layer", EPSILON, "head", bias=True), phi),
}


def learned(
    spec: HeadNorm, head_dim: int, rng: np.random.Generator
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Weights and biases of queries and of keys."""
    shapes = [spec.shape(num_heads, head_dim) for num_heads in (NUM_Q, NUM_KV)]
    weights, biases = ([rng.standard_normal(shape, np.float32) for shape in shapes] for _ in range(2))
    return weights, biases


@pytest.mark.parametrize(
    ("num_rows", "head_dim", "dtype"), [(1, 16, "float32"), (3, 20, "float32"), (700, 128, "float16")]
)
@pytest.mark.parametrize("model", NORMS)
def test_queries_and_keys_are_normalised_and_values_are_not(
    build: Build, model: str, num_rows: int, head_dim: int, dtype: str
) -> None:
    """As the model does it, queries and keys with their own weights; values are only cast."""
    (spec, theirs), rng = NORMS[model], np.random.default_rng(0)
    qkv = rng.standard_normal((1, num_rows, NUM_Q + 2 * NUM_KV, head_dim), np.float32) + 0.5
    weights, biases = learned(spec, head_dim, rng)
    result = np.empty_like(qkv, dtype)

    build(head_norm(NUM_Q, NUM_KV, head_dim, spec, dtype))(qkv, *weights, *biases, result)

    q, k, v = torch.split(torch.from_numpy(qkv[0]).double(), [NUM_Q, NUM_KV, NUM_KV], dim=1)
    with torch.no_grad():
        normalised = [
            theirs(heads, torch.from_numpy(weight), torch.from_numpy(bias))
            for heads, weight, bias in zip((q, k), weights, biases, strict=True)
        ]
    tolerance = 2e-5 if dtype == "float32" else 2e-3
    expected = torch.cat([*normalised, v], dim=1).numpy()
    np.testing.assert_allclose(result[0].astype(np.float64), expected, rtol=tolerance, atol=tolerance)
