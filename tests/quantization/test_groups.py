"""Integers and scales of groups."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.quantization.groups import Quantized, pack_words, quantize, unpack_words
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat
from tests.quantization.reference import mlc_words, words_to_weight

FORMS = [scheme.groups for scheme in SCHEMES.values() if scheme.groups is not None]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.word_bits}-{form.scale_dtype}")


def normal(num_rows: int, depth: int, seed: int = 0) -> NDArray[np.float32]:
    """Random weights."""
    return np.random.default_rng(seed).standard_normal((num_rows, depth), dtype=np.float32)


def restored(quantized: Quantized, depth: int, form: GroupFormat) -> NDArray[np.float64]:
    """What integers and scales stand for."""
    integers = quantized.stored.astype(int) - form.offset
    scale = quantized.scale.astype(np.float64).repeat(form.group_size, axis=1)
    numbers: NDArray[np.float64] = integers * scale
    assert (numbers[:, depth:] == 0).all()
    return numbers[:, :depth]


@every_form
@pytest.mark.parametrize("depth", [1, 64, 100, 192])
def test_the_error_is_at_most_half_of_the_scale(form: GroupFormat, depth: int) -> None:
    """And what a scale of half precision adds: the largest weight is a multiple of the exact one."""
    weight = normal(5, depth)
    quantized = quantize(weight, form)
    assert quantized.stored.shape == (5, form.padded(depth))
    assert quantized.scale.shape == (5, form.padded(depth) // form.group_size)
    assert quantized.scale.dtype == form.scale_dtype
    rounding = form.limit * np.finfo(form.scale_dtype).eps / 2
    bound = quantized.scale.astype(float).repeat(form.group_size, axis=1)[:, :depth] * (0.5 + rounding)
    assert (abs(restored(quantized, depth, form) - weight) <= bound * (1 + 1e-6)).all()


@every_form
def test_multiples_of_a_scale_are_exact(form: GroupFormat) -> None:
    """Every integer there is, in each group, comes back as it was."""
    integers = np.arange(-form.limit, form.limit + 1)
    weight = np.zeros((len(integers), 2 * form.group_size), np.float32)
    weight[:, 1] = weight[:, -1] = form.limit * 0.25
    weight[:, 2] = weight[:, -2] = integers * 0.25
    quantized = quantize(weight, form)
    assert (quantized.scale == 0.25).all()
    np.testing.assert_array_equal(restored(quantized, weight.shape[1], form), weight)


@every_form
def test_groups_of_zeros_and_of_almost_nothing_are_zero(form: GroupFormat) -> None:
    """No scale is divided by; weights below what half precision holds are lost, not turned into noise."""
    weight = normal(3, 2 * form.group_size)
    weight[0], weight[1, : form.group_size] = 0, 1e-9
    numbers = restored(quantize(weight, form), weight.shape[1], form)
    assert (numbers[0] == 0).all()
    assert (abs(numbers[1, : form.group_size]) <= 2e-9).all()
    assert (abs(numbers[1, form.group_size :]) > 0).any()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_every_type_of_numbers_is_taken(dtype: Any) -> None:
    """As the float32 that it is rounded from."""
    weight = normal(4, 96).astype(dtype)
    for form in FORMS:
        ours, reference = quantize(weight, form), quantize(weight.astype(np.float32), form)
        np.testing.assert_array_equal(ours.stored, reference.stored)
        np.testing.assert_array_equal(ours.scale, reference.scale)


def test_a_large_weight_is_quantized_as_its_rows_are() -> None:
    """It is done in pieces, of which the last is shorter."""
    (form, *_) = FORMS
    weight = normal(1030, 600)
    whole = quantize(weight, form)
    for row in (0, 436, 437, 1029):
        alone = quantize(weight[row : row + 1], form)
        np.testing.assert_array_equal(whole.stored[row], alone.stored[0])
        np.testing.assert_array_equal(whole.scale[row], alone.scale[0])


@every_form
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(form: GroupFormat, value: float) -> None:
    """Wherever it is."""
    weight = normal(40, 70)
    weight[39, 69] = value
    with pytest.raises(ValueError, match="has values that are not finite"):
        quantize(weight, form)


def test_what_no_scale_can_hold_is_refused() -> None:
    """Half precision ends at 65504; float32 does not."""
    weight = np.full((1, 64), 1e8, np.float32)
    for form in FORMS:
        if form.scale_dtype == "float32":
            assert restored(quantize(weight, form), 64, form) == pytest.approx(1e8)
            continue
        with pytest.raises(ValueError, match="has values that a scale in float16 can't hold"):
            quantize(weight, form)


@every_form
@pytest.mark.parametrize("depth", [1, 32, 50, 128])
def test_words_of_mlc_hold_the_same_integers(form: GroupFormat, depth: int) -> None:
    """Lowest bits first; what MLC leaves beyond the depth comes to stand for zero."""
    weight = normal(6, depth)
    words, scale = mlc_words(weight, form)
    stored = unpack_words(words, depth, form)
    ours = quantize(weight, form)
    np.testing.assert_array_equal(scale, ours.scale)
    np.testing.assert_array_equal(stored, ours.stored)
    np.testing.assert_allclose(
        restored(Quantized(stored, scale), depth, form), words_to_weight(words, scale, depth, form), rtol=1e-6
    )


def test_words_are_left_as_they_are() -> None:
    """They can be read-only memory of a file."""
    words = np.full((2, 8), 0x76543210, np.uint32)
    words.flags.writeable = False
    stored = unpack_words(words, 40, GroupFormat(4, 32, 7, "float16"))
    assert stored[0].tolist() == [*list(range(8)) * 5, *[7] * 24]
    assert (words == 0x76543210).all()


def test_ten_integers_of_three_bits_are_in_a_word() -> None:
    """Four words are a group of 40, and the two highest bits of each stay zero."""
    form = GroupFormat(4, 40, 3, "float16", narrow_bits=3)
    stored = (np.arange(80, dtype=np.uint8) % 7).reshape(1, 80)
    words = pack_words(stored, 72, form)
    assert words.shape == (1, 8)
    assert words[0, 0] == sum(k % 7 << 3 * k for k in range(10))
    assert words[0, 7] == stored[0, 70] | int(stored[0, 71]) << 3
    assert unpack_words(words, 72, form)[0].tolist() == [*stored[0, :72], *[3] * 8]
