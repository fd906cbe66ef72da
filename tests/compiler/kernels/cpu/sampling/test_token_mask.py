"""The kernel for masks of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import tirx

from mlc_serve.compiler.kernels.cpu.sampling.token_mask import mask_tokens


@pytest.mark.parametrize("vocab", [1, 31, 32, 33, 1000])
def test_only_what_a_mask_allows_stays_possible(
    build: Callable[[tirx.PrimFunc], Callable[..., Any]], vocab: int
) -> None:
    """Bit t % 32 of word t // 32 decides on token t, in rows that have a mask. Other rows are left alone."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, vocab)).astype(np.float32)
    allowed = rng.random((2, vocab)) < 0.5
    bits = np.pad(allowed, ((0, 0), (0, -vocab % 32)))
    masks = np.packbits(bits, axis=1, bitorder="little").view(np.int32)
    rows = np.array([3, 1], np.int32)
    expected = logits.copy()
    expected[rows] = np.where(allowed, logits[rows], -np.inf)

    build(mask_tokens())(logits, rows, masks)

    np.testing.assert_array_equal(logits, expected)
