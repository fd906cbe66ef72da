"""Sampling values and end tokens as directories declare them."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.checkpoint.generation_values import sampling_values, token_ids
from mlc_serve.errors import CheckpointError


def test_only_what_is_declared_is_set() -> None:
    """Unknown keys and null are silence; whole numbers are taken for floats."""
    assert sampling_values({"temperature": 1, "top_p": None, "max_length": 20}) == {"temperature": 1.0}


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), -0.1, "1", [1]])
def test_a_temperature_that_is_none_is_refused(value: Any) -> None:
    """What is no number, or not finite, or out of range."""
    with pytest.raises(CheckpointError, match="temperature is "):
        sampling_values({"temperature": value})


@pytest.mark.parametrize(
    ("declared", "expected"), [(None, []), (3, [3]), ([3, 4, 3], [3, 4]), ([None], []), (0, [0])]
)
def test_token_ids_come_alone_or_listed(declared: Any, expected: list[int]) -> None:
    """As one id, as several, or not at all."""
    assert token_ids(declared, "eos_token_id") == frozenset(expected)


@pytest.mark.parametrize("declared", ["</s>", [1.5], -1, True])
def test_what_is_no_id_is_refused(declared: Any) -> None:
    """The field is named."""
    with pytest.raises(CheckpointError, match="eos_token_id holds "):
        token_ids(declared, "eos_token_id")
