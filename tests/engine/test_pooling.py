"""How vectors are made from hidden states."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.engine.pooling import Pooling, PoolingMode, normalized

STATES = np.array([[3, 4], [1, 0], [5, 2], [0, 6]], np.float32)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (PoolingMode.MEAN, [[3, 4], [2, 8 / 3]]),
        (PoolingMode.CLS, [[3, 4], [1, 0]]),
        (PoolingMode.LAST, [[3, 4], [0, 6]]),
    ],
)
def test_each_input_has_its_own_rows(mode: PoolingMode, expected: list[list[float]]) -> None:
    """The first input has one row and the second three, and none sees the other's."""
    assert np.allclose(Pooling(mode, normalizes=False).pool(STATES, [0, 1, 4]), expected)
    assert np.allclose(Pooling(mode).pool(STATES, [0, 1, 4]), normalized(np.array(expected, np.float32)))


def test_a_vector_of_zeros_stays_one() -> None:
    """It has no direction, and is no reason for numbers that are not finite."""
    assert np.array_equal(normalized(np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
