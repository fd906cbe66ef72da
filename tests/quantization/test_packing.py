"""Layouts of weights."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.errors import CompileError
from mlc_serve.quantization.packing import (
    expert_columns,
    pack,
    tiles16_integers_shape,
    tiles16_pairs_shape,
    tiles16_scale_shape,
    tiles16_shape,
)
from mlc_serve.quantization.scheme import GroupFormat

EIGHT_BITS, FOUR_BITS = GroupFormat(8, 64, 128, "float16"), GroupFormat(4, 32, 7, "float16")
RAGGED = [(32, 64), (33, 64), (7, 64), (16, 128), (48, 192)]


def integers(num_columns: int, depth: int, bits: int) -> NDArray[np.uint8]:
    """Random ones of so many bits."""
    return np.random.default_rng(0).integers(0, 2**bits, (num_columns, depth), np.uint8)


@pytest.mark.parametrize(("num_columns", "depth"), [(32, 5), (33, 4), (7, 3), (16, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tiles_hold_sixteen_columns(num_columns: int, depth: int, dtype: str) -> None:
    """Weight [n, k] lies at [n // 16, k, n % 16], and what is no column is zero."""
    weight = np.random.default_rng(0).standard_normal((num_columns, depth)).astype(dtype)
    packed = pack(weight, "tiles16")
    assert list(packed.shape) == tiles16_shape(num_columns, depth)
    assert packed.dtype == weight.dtype
    rows = packed.transpose(0, 2, 1).reshape(-1, depth)
    np.testing.assert_array_equal(rows[:num_columns], weight)
    assert (rows[num_columns:] == 0).all()


@pytest.mark.parametrize(("num_columns", "depth"), [(32, 6), (33, 5), (7, 1)])
def test_pairs_follow_one_another_in_a_column(num_columns: int, depth: int) -> None:
    """Weights 2 i and 2 i + 1 of a column are neighbours; what is beyond depth and columns is zero."""
    weight = np.random.default_rng(0).standard_normal((num_columns, depth)).astype(ml_dtypes.bfloat16)
    packed = pack(weight, "tiles16-pairs")
    assert list(packed.shape) == tiles16_pairs_shape(num_columns, depth)
    assert packed.dtype == ml_dtypes.bfloat16
    padded = np.zeros((packed.shape[0] * 16, packed.shape[1] * 2), ml_dtypes.bfloat16)
    padded[:num_columns, :depth] = weight
    for tile, i, lane, j in np.ndindex(*packed.shape[:2], 16, 2):
        assert packed[tile, i, 2 * lane + j] == padded[16 * tile + lane, 2 * i + j]


@pytest.mark.parametrize(("num_columns", "depth"), RAGGED)
def test_bytes_are_four_of_a_column_at_a_time(num_columns: int, depth: int) -> None:
    """Integer [n, 4 i + j] lies at [n // 16, i, 4 (n % 16) + j], and what is no column is the padding."""
    stored = integers(num_columns, depth, 8)
    packed = pack(stored, "tiles16-u8", padding=128)
    assert list(packed.shape) == tiles16_integers_shape(num_columns, depth, EIGHT_BITS)
    padded = np.full((packed.shape[0] * 16, depth), 128, np.uint8)
    padded[:num_columns] = stored
    for tile, i, lane, j in np.ndindex(*packed.shape[:2], 16, 4):
        assert packed[tile, i, 4 * lane + j] == padded[16 * tile + lane, 4 * i + j]


@pytest.mark.parametrize(("num_columns", "depth"), RAGGED)
def test_nibbles_are_eight_of_a_column_at_a_time(num_columns: int, depth: int) -> None:
    """Integers 8 i + j in the low and 8 i + 4 + j in the high bits; what is no column is the padding."""
    stored = integers(num_columns, depth, 4)
    packed = pack(stored, "tiles16-u4", padding=7).astype(int)
    assert list(packed.shape) == tiles16_integers_shape(num_columns, depth, FOUR_BITS)
    padded = np.full((packed.shape[0] * 16, depth), 7, int)
    padded[:num_columns] = stored
    for tile, i, lane, j in np.ndindex(*packed.shape[:2], 16, 4):
        column, k = padded[16 * tile + lane], 8 * i + j
        assert packed[tile, i, 4 * lane + j] == column[k] + 16 * column[k + 4]


def test_scales_are_tiles_of_groups() -> None:
    """Those of columns that are not there are zero."""
    scale = np.random.default_rng(0).random((19, 3), np.float32).astype(np.float16)
    packed = pack(scale, "tiles16-scale")
    assert list(packed.shape) == tiles16_scale_shape(19, 130, EIGHT_BITS) == [2, 3, 16]
    np.testing.assert_array_equal(packed.transpose(0, 2, 1).reshape(-1, 3)[:19], scale)
    assert (packed[1, :, 3:] == 0).all()


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        ("tiles16", "float32"),
        ("tiles16-pairs", "bfloat16"),
        ("tiles16-u8", "uint8"),
        ("tiles16-u4", "uint8"),
        ("tiles16-scale", "float16"),
    ],
)
def test_tiles_of_two_halves_alternate(layout: str, dtype: Any) -> None:
    """Tile 2 j is the first half's tile j, and tile 2 j + 1 the second half's."""
    array = integers(96, 64, 4).astype(dtype)
    plain, paired = pack(array, layout), pack(array, f"{layout}-paired")
    assert paired.shape == plain.shape
    assert paired.dtype == plain.dtype
    for j, half in product(range(3), range(2)):
        np.testing.assert_array_equal(paired[2 * j + half], plain[3 * half + j])


@pytest.mark.parametrize(
    ("layout", "dtype"), [("tiles16", "float32"), ("tiles16-pairs", "bfloat16"), ("tiles16-u4", "uint8")]
)
def test_experts_are_filled_up_to_whole_tiles(layout: str, dtype: Any) -> None:
    """The matrices of experts, or their halves, are laid out as if each were a weight by itself."""
    array = integers(3 * 40, 64, 4).astype(dtype)
    experts = np.split(array, 3)
    expected = np.concatenate([pack(expert, layout, 7) for expert in experts])
    np.testing.assert_array_equal(pack(array, f"{layout}-experts3", 7), expected)
    assert len(expected) * 16 == 3 * expert_columns(40, 1)
    paired = pack(array, f"{layout}-paired-experts3", 7)
    assert len(paired) * 16 == 3 * expert_columns(40, 2)
    halves = [pack(half, layout, 7) for expert in experts for half in np.split(expert, 2)]
    for tile, (expert, step, half) in enumerate(product(range(3), range(2), range(2))):
        np.testing.assert_array_equal(paired[tile], halves[2 * expert + half][step])


def test_halves_of_no_whole_tiles_are_refused() -> None:
    """A tile would hold columns of both."""
    with pytest.raises(CompileError, match="'tiles16-paired' takes halves of whole tiles, not 48 columns"):
        pack(np.ones((48, 4), np.float32), "tiles16-paired")


def test_plain_weights_stay_as_they_are() -> None:
    """No copy is made."""
    weight = np.ones((3, 4), np.float32)
    assert pack(weight, "plain") is weight


@pytest.mark.parametrize("layout", ["tiles32", "plain-paired"])
def test_an_unknown_layout_is_named(layout: str) -> None:
    """A library of another version may want what this one can't make."""
    with pytest.raises(CompileError, match=f"layout '{layout}'"):
        pack(np.ones((3, 4), np.float32), layout)
