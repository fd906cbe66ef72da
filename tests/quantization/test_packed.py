"""Integers in groups of their own, brought into our formats."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.quantization.groups import Quantized, quantize
from mlc_serve.quantization.packed import PackedWeight, repacked
from mlc_serve.quantization.scheme import GroupFormat

EIGHT, FOUR = GroupFormat(8, 64, 128, "float16"), GroupFormat(4, 32, 7, "float16")
DEPTH = 200  # no whole number of groups


def weight(bits: int, zero: int, size: int, scales: Any = None, seed: int = 0) -> PackedWeight:
    """Random integers, of which each row has the least and the greatest, with random scales."""
    rng = np.random.default_rng(seed)
    num_groups = -(-DEPTH // size)
    integers = rng.integers(0, 2**bits, (5, DEPTH)).astype(np.uint8)
    integers[:, 0], integers[:, -1] = 0, 2**bits - 1
    if scales is None:
        scales = rng.uniform(0.01, 0.02, (5, num_groups)).astype(np.float16)
    return PackedWeight(integers, np.full((5, num_groups), zero, np.int16), scales, size)


def restored(held: Quantized, form: GroupFormat) -> NDArray[np.float32]:
    """What integers and scales stand for, without the ends of rows."""
    scale = held.scale.astype(np.float32).repeat(form.group_size, axis=1)
    numbers = (held.stored.astype(np.float32) - form.offset) * scale
    assert (numbers[:, DEPTH:] == 0).all()
    return numbers[:, :DEPTH]


@pytest.mark.parametrize(
    ("bits", "zero", "size", "form"),
    [
        *((4, zero, size, EIGHT) for zero in (0, 3, 15) for size in (64, 128, DEPTH)),
        *((4, zero, size, FOUR) for zero in (7, 8) for size in (32, 64, 96, 128, DEPTH)),
        (8, 128, 128, EIGHT),
        (8, 127, 64, EIGHT),
    ],
)
def test_what_fits_is_held_exactly(bits: int, zero: int, size: int, form: GroupFormat) -> None:
    """Zero points from one end to the other fit into eight bits, and those in the middle into four."""
    packed = weight(bits, zero, size)
    np.testing.assert_array_equal(restored(repacked(packed, form), form), packed.floats())


def test_what_does_not_fit_is_quantized_anew() -> None:
    """As its numbers would be: if integers are too many, groups smaller, or scales of a wider type."""
    wide = np.random.default_rng(3).uniform(0.01, 0.02, (5, 4)).astype(np.float32)
    for packed, form in (
        (weight(8, 0, 64), EIGHT),
        (weight(4, 5, 128), FOUR),
        (weight(4, 8, 16), EIGHT),
        (weight(4, 8, 64, wide), EIGHT),
    ):
        ours, reference = repacked(packed, form), quantize(packed.floats(), form)
        whole = DEPTH // form.group_size  # the last group has few weights, which may fit
        np.testing.assert_array_equal(ours.scale[:, :whole], reference.scale[:, :whole])
        whole *= form.group_size
        np.testing.assert_array_equal(ours.stored[:, :whole], reference.stored[:, :whole])


def test_one_group_that_does_not_fit_leaves_the_others_exact() -> None:
    """Each group is decided by itself."""
    packed = weight(4, 8, 64)
    packed.zero[3, 1] = 250
    found, expected = restored(repacked(packed, EIGHT), EIGHT), packed.floats()
    wrong = np.argwhere((found != expected).reshape(5, DEPTH))
    assert {(row, column // 64) for row, column in wrong} == {(3, 1)}
    assert np.abs(found - expected).max() < np.abs(expected[3]).max() / 254 * 1.01


def test_scales_that_are_multiples_of_one_another_are_joined() -> None:
    """Groups of 32 become one of 64 if the greater scale is a multiple of the other; zeros need no scale."""
    scales = np.tile(np.array([1, 2, 4, 1, 0.5, 3.5, 1], np.float16), (5, 1)) / 64
    packed = weight(4, 8, 32, scales)
    packed.integers[:, 32:64] = 8
    np.testing.assert_array_equal(restored(repacked(packed, EIGHT), EIGHT), packed.floats())


def test_scales_in_bfloat16_are_held_in_float16() -> None:
    """Unless they are smaller than any that models have."""
    packed = weight(4, 8, 64, np.full((5, 4), 3e-5, ml_dtypes.bfloat16))
    np.testing.assert_array_equal(restored(repacked(packed, EIGHT), EIGHT), packed.floats())


@pytest.mark.parametrize("scale", [np.inf, np.nan])
def test_scales_that_are_not_finite_are_refused(scale: float) -> None:
    """As are values that are not finite."""
    packed = weight(4, 8, 64)
    packed.scale[1, 1] = scale
    with pytest.raises(ValueError, match="has values that are not finite"):
        repacked(packed, EIGHT)


def test_rows_are_moved_and_nothing_else() -> None:
    """Rows in another order are the same numbers. Transposed or increased numbers have no such integers."""
    packed, order = weight(4, 5, 64), np.array([4, 0, 2])
    moved = packed.moved(lambda array: array[order])
    assert moved is not None
    np.testing.assert_array_equal(moved.floats(), packed.floats()[order])
    assert packed.moved(np.transpose) is None
    assert packed.moved(lambda array: array.astype(np.float32) + 1) is None
