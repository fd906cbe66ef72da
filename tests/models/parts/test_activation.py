"""How configurations name activations."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.parts.activation import read_activation


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("silu", "silu"),
        ("swish", "silu"),
        ("gelu", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_fast", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("relu2", "relu_squared"),
    ],
)
def test_names_of_one_function_mean_the_same(name: str, activation: str) -> None:
    """The names that transformers has for a function are read from the key of the family."""
    assert read_activation({"hidden_act": name}) == activation
    assert read_activation({"activation_function": name}, "activation_function") == activation


@pytest.mark.parametrize("config", [{}, {"hidden_act": None}])
def test_a_missing_key_means_the_default(config: dict[str, Any]) -> None:
    """A family says what its models use if the configuration does not."""
    assert read_activation(config) == "silu"
    assert read_activation(config, default="gelu") == "gelu"


@pytest.mark.parametrize("name", ["quick_gelu", "", 3, ["silu"]])
def test_other_functions_are_refused(name: Any) -> None:
    """The error names the key and the value."""
    with pytest.raises(CheckpointError, match=r"^act .* is not supported; supported are gelu, "):
        read_activation({"act": name}, "act")
