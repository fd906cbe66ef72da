"""The experts of gpt_oss in MXFP4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mlc_serve.checkpoint.packed.mxfp4 import MXFP4
from mlc_serve.checkpoint.packed.unpacked_tensors import UnpackedTensors
from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_changes import Stacked
from mlc_serve.quantization.packed import PackedWeight, repacked
from mlc_serve.quantization.scheme import find_scheme

NAME = "model.layers.0.mlp.experts.down_proj"
NUMBERS = (0, 0.5, 1, 1.5, 2, 3, 4, 6)  # of the lower three bits; the fourth is the sign
EXPERTS, ROWS, BLOCKS = 2, 6, 4


def experts(directory: Path, exponents: NDArray[np.uint8]) -> tuple[UnpackedTensors, NDArray[np.float64]]:
    """Random packed experts, and `(EXPERTS, ROWS, 32 * BLOCKS)` numbers that they stand for."""
    blocks = np.random.default_rng(1).integers(0, 256, (EXPERTS, ROWS, BLOCKS, 16)).astype(np.uint8)
    save_file({f"{NAME}_blocks": blocks, f"{NAME}_scales": exponents}, directory / "model.safetensors")
    numbers = np.zeros((*exponents.shape, 32))
    for place in np.ndindex(*numbers.shape):
        *block, k = place
        bits = int(blocks[(*block, k // 2)]) >> 4 * (k % 2) & 15
        power = 2.0 ** (int(exponents[tuple(block)]) - 127)
        numbers[place] = NUMBERS[bits & 7] * (-1 if bits & 8 else 1) * power
    return UnpackedTensors(SafetensorsWeights(directory), [MXFP4()], directory), numbers.reshape(
        EXPERTS, ROWS, -1
    )


def rows_of(tensors: UnpackedTensors) -> PackedWeight:
    """The packed experts as `(EXPERTS * ROWS, 32 * BLOCKS)`."""
    packed = tensors.packed(NAME)
    assert packed is not None
    rows = packed.moved(Stacked(EXPERTS, transposed=True).values)
    assert rows is not None
    return rows


def random_exponents(spread: int) -> NDArray[np.uint8]:
    """Exponents that differ by less than `spread`."""
    rng = np.random.default_rng(2)
    return rng.integers(118, 118 + spread, (EXPERTS, ROWS, BLOCKS)).astype(np.uint8)


def test_numbers_are_those_of_the_format(tmp_path: Path) -> None:
    """Experts have the name, the shape and the values that transformers gives them, transposed."""
    tensors, numbers = experts(tmp_path, random_exponents(12))
    assert set(tensors.names) == {NAME}
    assert tensors.shape(NAME) == (EXPERTS, 32 * BLOCKS, ROWS)
    np.testing.assert_array_equal(tensors.tensor(NAME), numbers.transpose(0, 2, 1))


@pytest.mark.parametrize(("spread", "is_exact"), [(4, True), (12, False)])
def test_eight_bits_hold_blocks_of_similar_scales(tmp_path: Path, spread: int, is_exact: bool) -> None:
    """Two blocks become one group without rounding if their scales differ by a factor of up to 8."""
    tensors, numbers = experts(tmp_path, random_exponents(spread))
    packed, form = rows_of(tensors), find_scheme("q8f32_1").groups
    assert form is not None
    held = repacked(packed, form)
    scale = held.scale.astype(np.float32).repeat(form.group_size, axis=1)
    found: NDArray[Any] = (held.stored.astype(np.float32) - form.offset) * scale
    assert (found == numbers.reshape(found.shape)).all() == is_exact
    assert np.abs(found - numbers.reshape(found.shape)).max() <= np.abs(numbers).max() / 127


def test_an_exponent_that_stands_for_no_number_is_refused(tmp_path: Path) -> None:
    """255 is not a number, and neither are the weights of its block."""
    tensors, _ = experts(tmp_path, np.full((EXPERTS, ROWS, BLOCKS), 255, np.uint8))
    packed, form = rows_of(tensors), find_scheme("q8f32_1").groups
    assert form is not None
    with pytest.raises(ValueError, match="not finite"):
        repacked(packed, form)


def test_blocks_of_another_size_are_named(tmp_path: Path) -> None:
    """One line has the name and both shapes."""
    tensors, _ = experts(tmp_path, random_exponents(2)[:, :, 1:])
    with pytest.raises(CheckpointError, match=r"down_proj_scales has the shape \[2, 6, 3\]; .* \[2, 6, 4\]"):
        tensors.shape(NAME)
