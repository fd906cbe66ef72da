"""Embeddings of positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlc_serve.compiler.kernels.cpu.linear.embedding import add_positions, position_embedding


def test_positions_are_looked_up(build: Callable[..., Any]) -> None:
    """Each row is that of its position, plus that of the first type."""
    rng = np.random.default_rng(0)
    table, types = (
        rng.standard_normal((9, 20), dtype=np.float32),
        rng.standard_normal((2, 20), dtype=np.float32),
    )
    positions = np.array([3, 0, 8], np.int32)
    y = np.full((3, 20), np.nan, np.float32)

    build(position_embedding(9, 2, 20))(positions, table, types, y)

    assert np.array_equal(y, table[positions] + types[0])


def test_positions_are_added_to_rows(build: Callable[..., Any]) -> None:
    """Each row of activations gets the row of its position, whatever the width."""
    rng = np.random.default_rng(0)
    for width in (48, 7):
        kernel = build(add_positions(9, width))
        table = rng.standard_normal((9, width), dtype=np.float32)
        for num_rows in (1, 3, 37):
            x = rng.standard_normal((1, num_rows, width), dtype=np.float32)
            positions = rng.integers(0, 9, num_rows).astype(np.int32)
            y = np.full_like(x, np.nan)
            kernel(x, positions, table, y)
            assert np.array_equal(y[0], x[0] + table[positions])
