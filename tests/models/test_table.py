"""Architectures by name."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.table import ARCHITECTURES, read_config
from tests.models.test_llama import CONFIG


@pytest.mark.parametrize(
    ("model_type", "config", "biases"),
    [
        ("llama", {}, (False, False)),
        ("llama", {"attention_bias": True}, (True, True)),
        ("qwen2", {}, (True, False)),
    ],
)
def test_an_architecture_has_its_biases(
    model_type: str, config: dict[str, Any], biases: tuple[bool, bool]
) -> None:
    """Qwen2 has them on Q, K and V; Llama nowhere, or if its config says so on the output as well."""
    read = read_config(model_type, CONFIG | config)
    assert (read.qkv_bias, read.o_bias) == biases


def test_an_unknown_architecture_is_refused() -> None:
    """With a list of those that are known."""
    with pytest.raises(CheckpointError, match=r"'mamba' is not supported; supported are llama, qwen2"):
        read_config("mamba", CONFIG)
    assert set(ARCHITECTURES) == {"llama", "qwen2"}
