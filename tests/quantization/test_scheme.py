"""Quantization schemes by name."""

from __future__ import annotations

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.quantization.scheme import find_scheme


@pytest.mark.parametrize(("name", "dtype"), [("q0f32", "float32"), ("q0f16", "float16")])
def test_a_scheme_stores_weights_in_its_type(name: str, dtype: str) -> None:
    """MLC's names: no quantization, and the type of floating-point numbers."""
    assert find_scheme(name).weight_dtype == dtype


def test_an_unknown_scheme_is_refused() -> None:
    """With a list of those that are known."""
    with pytest.raises(ConfigError, match="'q4f16_1' is not available; available are q0f16, q0f32"):
        find_scheme("q4f16_1")
