"""Sampling values and end tokens that model directories recommend, checked as strictly as a client's."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from mlc_serve.errors import CheckpointError

# Lower bound of each value, which itself is allowed, and the upper one.
_BOUNDS = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
}


def sampling_values(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of GenerationDefaults that a generation config sets; null and absent ones are left out.

    Sampling switched off (do_sample false) is temperature 0. A top_k of 0 keeps all tokens: None.
    CheckpointError for a value that is no number or out of its range.
    """
    values: dict[str, Any] = {
        name: _number(name, declared[name]) for name in _BOUNDS if declared.get(name) is not None
    }
    if declared.get("top_k") is not None:
        values["top_k"] = _whole_number("top_k", declared["top_k"]) or None
    if declared.get("do_sample") is False:
        values["temperature"] = 0.0
    return values


def token_ids(declared: Any, name: str) -> frozenset[int]:
    """Ids from a field that holds one, a list of them, or nothing; CheckpointError for anything else."""
    listed = declared if isinstance(declared, list) else [declared]
    return frozenset(_whole_number(name, token_id) for token_id in listed if token_id is not None)


def _number(name: str, value: Any) -> float:
    low, high = _BOUNDS[name]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if not is_number or not low <= value <= high:
        raise CheckpointError(f"{name} is {value!r}, not a number from {low:g} to {high:g}")
    return float(value)


def _whole_number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CheckpointError(f"{name} holds {value!r}, not a whole number from 0 on")
    return value
