"""Quantization schemes by name."""

from __future__ import annotations

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.config.option import options_of
from mlc_serve.errors import ConfigError
from mlc_serve.quantization.scheme import (
    CPU_DEFAULT,
    GPU_DEFAULT,
    SCHEMES,
    check_conversion,
    choose_scheme,
    find_scheme,
)


@pytest.mark.parametrize(
    ("name", "dtype"), [("q0f32", "float32"), ("q0f16", "float16"), ("q0bf16", "bfloat16")]
)
def test_a_scheme_stores_weights_in_its_type(name: str, dtype: str) -> None:
    """MLC's names: no quantization, and the type of floating-point numbers."""
    assert (find_scheme(name).weight_dtype, find_scheme(name).groups) == (dtype, None)


@pytest.mark.parametrize(
    ("name", "bits", "group_size", "scale_dtype"),
    [
        ("q8f32_1", 8, 64, "float16"),
        ("q4f16_1", 4, 32, "float16"),
        ("q4f32_1", 4, 32, "float32"),
        ("q3f16_1", 3, 40, "float16"),
    ],
)
def test_a_scheme_stores_integers_in_groups(name: str, bits: int, group_size: int, scale_dtype: str) -> None:
    """They are symmetric around an offset, and fit their bits."""
    form = find_scheme(name).groups
    assert form is not None
    assert (form.word_bits, form.group_size, form.scale_dtype) == (bits, group_size, scale_dtype)
    assert form.offset >= form.limit == 2 ** (bits - 1) - 1
    assert form.offset + form.limit < 2**bits
    assert [form.padded(depth) for depth in (1, group_size, group_size + 1)] == [
        group_size,
        group_size,
        2 * group_size,
    ]


def test_the_setting_names_every_scheme() -> None:
    """And those that are taken without it."""
    (text,) = (declared.help for name, _, declared in options_of(EngineConfig) if name == "quantization")
    assert all(name in text for name in SCHEMES)
    assert f"{CPU_DEFAULT} on the CPU and {GPU_DEFAULT} elsewhere" in text


def test_an_unknown_scheme_is_refused() -> None:
    """With a list of those that are known, whether a user names it or the weights have it."""
    message = (
        "'q4f16_0' is not available; available are q0bf16, q0f16, q0f32, q3f16_1, q4f16_1, q4f32_1, q8f32_1"
    )
    with pytest.raises(ConfigError, match=message):
        choose_scheme("q4f16_0", None, "cpu")
    with pytest.raises(ConfigError, match=message):
        choose_scheme(None, "q4f16_0", "cpu")


def test_what_is_asked_for_comes_before_what_the_weights_are() -> None:
    """And that before the device's default."""
    assert choose_scheme("q8f32_1", "q0f16", "cpu").name == "q8f32_1"
    assert choose_scheme(None, "q4f32_1", "cpu").name == "q4f32_1"
    assert choose_scheme(None, None, "cpu").name == CPU_DEFAULT
    assert choose_scheme(None, None, "metal").name == GPU_DEFAULT


def test_a_scheme_without_kernels_for_a_device_is_refused() -> None:
    """With those that there are for it; every one has some for the CPU."""
    message = "q8f32_1 is available on the CPU, not on cuda; available there are q0f16, q0f32"
    with pytest.raises(ConfigError, match=message):
        choose_scheme("q8f32_1", None, "cuda")
    with pytest.raises(ConfigError, match="q4f16_1 is available on the CPU, not on metal"):
        choose_scheme(None, "q4f16_1", "metal")
    assert [choose_scheme(name, None, "cpu").name for name in SCHEMES] == list(SCHEMES)


def test_integers_are_served_as_they_are() -> None:
    """Other than floating-point weights, which can become any scheme's."""
    check_conversion("q0f16", "q4f16_1")
    check_conversion("q4f16_1", "q4f16_1")
    check_conversion(None, "q4f16_1")
    for own, wanted in (("q4f16_1", "q4f32_1"), ("q4f16_1", "q0f32"), ("q3f16_1", "q0f16")):
        with pytest.raises(ConfigError, match=f"the weights are {own}; they can't be served as {wanted}"):
            check_conversion(own, wanted)
