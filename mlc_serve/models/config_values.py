"""Reads single values of a model's configuration, which is JSON that may contain anything.

All functions raise CheckpointError, which names the key, for a value of the wrong type or size. A key whose
value is null counts as missing.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

from mlc_serve.errors import CheckpointError

LARGEST_SIZE = 2**31 - 1  # positions and ids are 32 bits

Config = Mapping[str, Any]


def size(config: Config, key: str, default: int | None = None, up_to: int = LARGEST_SIZE) -> int:
    """A positive integer no greater than `up_to`."""
    value = _value(config, key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= up_to:
        _refuse(
            key, "a positive integer" if up_to == LARGEST_SIZE else f"a positive integer up to {up_to}", value
        )
    return value


def index(config: Config, key: str, default: int) -> int:
    """An integer of at least 0."""
    value = _value(config, key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_SIZE:
        _refuse(key, "an integer of at least 0", value)
    return value


def number(config: Config, key: str, above: float, up_to: float, default: float | None = None) -> float:
    """A number greater than `above` and no greater than `up_to`."""
    value = _value(config, key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not above < value <= up_to:
        _refuse(key, f"a number above {above:g} and up to {up_to:g}", value)
    return float(value)


def optional_number(
    config: Config, key: str, above: float, up_to: float, default: float | None = None
) -> float | None:
    """The same as `number`, or None if the value is null."""
    if key in config:
        return None if config[key] is None else number(config, key, above, up_to)
    return default


def flag(config: Config, key: str, *, default: bool = False) -> bool:
    """True or false."""
    value = _value(config, key, default)
    if not isinstance(value, bool):
        _refuse(key, "true or false", value)
    return value


def _value(config: Config, key: str, default: Any) -> Any:
    return default if config.get(key) is None else config[key]


def _refuse(key: str, wanted: str, value: Any) -> NoReturn:
    raise CheckpointError(f"{key} must be {wanted}, not {reprlib.repr(value)}")
