"""Products of integers in groups, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.instructions import dot_for
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.target import target_for
from mlc_serve.quantization.scheme import GroupFormat
from tests.compiler.kernels.cpu.linear.parts import integer_matmul
from tests.compiler.kernels.cpu.linear.quantized import (
    ACTIVATED,
    BIAS,
    EIGHT_BITS,
    FOUR_BITS,
    GATED,
    GATED_BIAS,
    GROUPS,
    NUM_ROWS,
    PLAIN,
    RESIDUAL,
    SCALED,
    Array,
    empty_result,
    random_addends,
    random_weight,
    with_epilogue,
)

# Integers add up exactly. Only float32 rounds, in as many additions as there are groups, and so does the
# conversion of the result.
TOLERANCES = {"float32": 2e-6, "float16": 1e-3}


def random_activations(num_rows: int, depth: int, groups: GroupFormat, dot: Dot) -> tuple[Array, ...]:
    """Words, scales and starts as `activation_bytes` makes them, and the numbers `(1, s, Kp)` that they stand
    for.
    """
    rng = np.random.default_rng(num_rows)
    padded = groups.padded(depth)
    steps = rng.integers(-127, 128, (1, num_rows, padded)).astype(np.int8)
    steps[0, 0] = 127
    steps[0, -1, 1::2] = -127
    steps[:, :, depth:] = 0
    scales = rng.random((1, num_rows, padded // groups.group_size)).astype(np.float32) / 127
    sums = steps.reshape(*scales.shape, -1).sum(axis=3, dtype=np.int32)
    stand_for = steps * scales.astype(np.float64).repeat(groups.group_size, axis=2)
    return steps.view(np.int32), scales, -dot.offset * sums, stand_for


@pytest.mark.parametrize(
    ("scheme", "num_columns", "depth", "epilogue", "dtype"),
    [
        ("q8f32_1", 96, 128, PLAIN, "float32"),
        ("q8f32_1", 100, 50, BIAS, "float16"),
        ("q8f32_1", 64, 200, GATED, "float32"),
        ("q8f32_1", 7, 5, RESIDUAL, "float32"),
        ("q4f16_1", 96, 64, GATED, "float16"),
        ("q4f16_1", 56, 33, RESIDUAL, "float32"),
        ("q4f32_1", 33, 100, BIAS, "float32"),
        ("q4f32_1", 48, 40, PLAIN, "float16"),
        ("q8f32_1", 96, 64, GATED_BIAS, "float32"),
        ("q4f16_1", 41, 40, ACTIVATED, "float32"),
        ("q8f32_1", 60, 30, SCALED, "float32"),
        ("q3f16_1", 64, 90, GATED, "float32"),
        ("q3f16_1", 33, 40, BIAS, "float32"),
    ],
)
def test_a_product_is_that_of_what_the_integers_stand_for(
    build: Callable[..., Any], scheme: str, num_columns: int, depth: int, epilogue: Epilogue, dtype: str
) -> None:
    """Products equal NumPy's for any number of rows, widths of no whole tiles or pairs of tiles, and depths
    of no whole groups.
    """
    groups = GROUPS[scheme]
    dot = dot_for(target_for("cpu"), groups)
    kernel = build(integer_matmul(num_columns, depth, groups, epilogue, dtype, dot))
    weight = random_weight(num_columns, depth, groups, epilogue)
    for num_rows in NUM_ROWS:
        *activations, x = random_activations(num_rows, depth, groups, dot)
        addends = random_addends(num_columns, num_rows)
        y = empty_result(num_columns, num_rows, epilogue, dtype)

        kernel(*activations, weight.packed, weight.scale, *addends, y)

        expected = with_epilogue(x @ weight.dense.T, addends, epilogue)
        np.testing.assert_allclose(y, expected, atol=TOLERANCES[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("groups", [EIGHT_BITS, FOUR_BITS])
def test_more_rows_than_one_pass_over_the_tiles_takes(build: Callable[..., Any], groups: GroupFormat) -> None:
    """Nineteen rows have the right products at a depth of 1 << 16, where a pass takes eight rows, or half a
    megabyte of activations.
    """
    depth, num_columns = 1 << 16, 32
    dot = dot_for(target_for("cpu"), groups)
    kernel = build(integer_matmul(num_columns, depth, groups, PLAIN, "float32", dot))
    weight = random_weight(num_columns, depth, groups, PLAIN)
    *activations, x = random_activations(19, depth, groups, dot)
    y = empty_result(num_columns, 19, PLAIN, "float32")
    addends = random_addends(num_columns, 19)
    kernel(*activations, weight.packed, weight.scale, *addends, y)
    expected = x @ weight.dense.T
    np.testing.assert_allclose(y, expected, atol=2e-5 * np.abs(expected).max())


def test_a_row_that_is_no_number_spoils_no_other(build: Callable[..., Any]) -> None:
    """Scales of NaN make all of that row's results NaN."""
    dot = dot_for(target_for("cpu"), FOUR_BITS)
    kernel = build(integer_matmul(40, 64, FOUR_BITS, PLAIN, "float32", dot))
    weight = random_weight(40, 64, FOUR_BITS, PLAIN)
    words, scales, starts, _ = random_activations(7, 64, FOUR_BITS, dot)
    scales[0, 3, 1] = np.nan
    y = empty_result(40, 7, PLAIN, "float32")
    kernel(words, scales, starts, weight.packed, weight.scale, *random_addends(40, 7), y)
    assert [bool(np.isnan(row).all()) for row in y[0]] == [row == 3 for row in range(7)]
    assert np.isfinite(y[0, [0, 1, 2, 4, 5, 6]]).all()
