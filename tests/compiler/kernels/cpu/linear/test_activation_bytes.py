"""Rounding of activations to bytes, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.quantization.scheme import GroupFormat
from tests.compiler.kernels.cpu.linear.norms import normalised, norms
from tests.compiler.kernels.cpu.linear.parts import quantize_rows
from tests.compiler.kernels.cpu.linear.quantized import EIGHT_BITS, FOUR_BITS, THREE_BITS, Array, rounded

OFFSET = 5


def quantized(kernel: Callable[..., None], groups: GroupFormat, x: Array, *norm: Array) -> tuple[Array, ...]:
    """Integers `(1, s, Kp)`, scales and starts `(1, s, G)` of rows `(1, s, K)`."""
    num_rows, padded = x.shape[1], groups.padded(x.shape[2])
    words = np.full((1, num_rows, padded // 4), -1, np.int32)
    scales = np.full((1, num_rows, padded // groups.group_size), np.nan, np.float32)
    starts = np.full(scales.shape, -1, np.int32)
    unread = np.zeros((2, x.shape[2]), np.float32)
    kernel(x, *(norm or unread), words, scales, starts)
    return words.view(np.int8), scales, starts


@pytest.mark.parametrize("groups", [EIGHT_BITS, FOUR_BITS, THREE_BITS])
@pytest.mark.parametrize(("width", "dtype"), [(256, "float32"), (100, "float16"), (7, "float32")])
def test_rows_are_rounded_to_steps_of_each_group(
    build: Callable[..., Any], groups: GroupFormat, width: int, dtype: str
) -> None:
    """Few rows and many are rounded, also of a width that is not a whole number of groups. Where a value is
    within float rounding of the middle of two steps, either is right.
    """
    kernel = build(quantize_rows(width, groups, OFFSET, dtype))
    for num_rows in (1, 2, 5, 13):
        x = np.random.default_rng(num_rows).standard_normal((1, num_rows, width)).astype(dtype)
        steps, scales, starts = quantized(kernel, groups, x)

        expected, expected_scales = rounded(x, groups)
        differs = steps != expected
        assert np.abs(steps - expected).max() <= 1
        assert differs.mean() < 0.01
        np.testing.assert_allclose(scales, expected_scales, rtol=1e-6)
        sums = steps.reshape(*starts.shape, -1).sum(axis=3, dtype=np.int32)
        np.testing.assert_array_equal(starts, -OFFSET * sums)


@pytest.mark.parametrize(("width", "groups"), [(192, EIGHT_BITS), (100, EIGHT_BITS), (120, THREE_BITS)])
@pytest.mark.parametrize("index", range(3))
def test_rows_are_normalised_first(
    build: Callable[..., Any], width: int, groups: GroupFormat, index: int
) -> None:
    """With a norm, the steps are those of the normalised row."""
    norm = norms(width)[index]
    kernel = build(quantize_rows(width, groups, OFFSET, "float32", norm))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, width), dtype=np.float32) * 3 + 1
    weight, bias = rng.standard_normal((2, width), dtype=np.float32)
    steps, scales, _ = quantized(kernel, groups, x, weight, bias)

    expected, expected_scales = rounded(normalised(x, norm, weight, bias), groups)
    assert np.abs(steps - expected).max() <= 1
    assert (steps != expected).mean() < 0.01
    np.testing.assert_allclose(scales, expected_scales, rtol=1e-5)


def test_steps_are_exact_where_the_scale_is(build: Callable[..., Any]) -> None:
    """Integers up to 127 come back, ties go to even ones, and zeros have no scale."""
    kernel = build(quantize_rows(128, EIGHT_BITS, OFFSET, "float32"))
    x = np.zeros((1, 1, 128), np.float32)
    x[0, 0, :6] = 127, -127, 1.5, 2.5, -0.5, 64
    steps, scales, starts = quantized(kernel, EIGHT_BITS, x)
    assert steps[0, 0, :6].tolist() == [127, -127, 2, 2, 0, 64]
    assert not steps[0, 0, 6:].any()
    np.testing.assert_allclose(scales[0, 0], [1, 0])
    assert starts[0, 0].tolist() == [-OFFSET * 68, 0]


def test_a_value_that_is_no_number_spoils_only_its_scale(build: Callable[..., Any]) -> None:
    """With a NaN or infinity, the scale of its group is not finite; those of other groups are."""
    kernel = build(quantize_rows(192, EIGHT_BITS, OFFSET, "float32"))
    x = np.ones((1, 3, 192), np.float32)
    x[0, 1, 70], x[0, 2, 3] = np.nan, np.inf
    _, scales, _ = quantized(kernel, EIGHT_BITS, x)
    broken = ~np.isfinite(scales[0])
    assert broken.tolist() == [[False] * 3, [False, True, False], [True, False, False]]
