"""Interleaved rotary pairs, sorted into halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.cohere.modeling_cohere import rotate_half as rotate_neighbours
from transformers.models.llama.modeling_llama import rotate_half

from mlc_serve.models.interleaved import halves_of_rows


@pytest.mark.parametrize(("rotary_dim", "first"), [(None, 0), (6, 0), (4, 6)])
def test_scores_stay_the_same(rotary_dim: int | None, first: int) -> None:
    """Neighbours rotated as Cohere does it, and sorted weights rotated in halves, give the same scores."""
    num_heads, head_dim, width = 3, 10, 7
    count = head_dim if rotary_dim is None else rotary_dim
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, num_heads * head_dim, width, generator=generator)
    tokens = torch.randn(2, width, generator=generator)
    angles = torch.tensor([3.0, 8.0])[:, None] * torch.linspace(1, 0.1, count // 2)

    def heads(weight: torch.Tensor, *, is_sorted: bool) -> torch.Tensor:
        """The rotated heads `(2, num_heads, head_dim)`."""
        x = (tokens @ weight.T).reshape(2, num_heads, head_dim)
        part = x[..., first : first + count]
        turned = torch.cat([angles] * 2, -1) if is_sorted else angles.repeat_interleave(2, -1)
        rotate = rotate_half if is_sorted else rotate_neighbours
        x[..., first : first + count] = part * turned.cos()[:, None] + rotate(part) * turned.sin()[:, None]
        return x

    change = halves_of_rows(num_heads, head_dim, rotary_dim, first)
    theirs = [heads(weight, is_sorted=False) for weight in weights]
    ours = [heads(torch.from_numpy(change.values(weight.numpy())), is_sorted=True) for weight in weights]
    scores = [np.einsum("qhd,khd->hqk", q.numpy(), k.numpy()) for q, k in (theirs, ours)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-4)
