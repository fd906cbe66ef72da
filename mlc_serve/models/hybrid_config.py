"""Reads what configurations of models have in common of which some layers attend and others are recurrent.

All functions raise CheckpointError, which names the key.
"""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, size

ATTENDS = "full_attention"
_MOST_TAPS = 16


def check_types(types: object, count: int, recurrent: str) -> list[str]:
    """The types of `count` layers, ATTENDS or `recurrent`. There must be some of each."""
    if not isinstance(types, list) or len(types) != count or {*map(str, types)} != {ATTENDS, recurrent}:
        raise CheckpointError(
            f"layer_types must name {count} layers, of which some are {ATTENDS!r} and the others "
            f"{recurrent!r}, not {reprlib.repr(types)}"
        )
    return types


def read_taps(config: Config, key: str, default: int) -> int:
    """Over how many tokens a convolution goes."""
    taps = size(config, key, default, up_to=_MOST_TAPS)
    if taps < 2:
        raise CheckpointError(f"{key} must be at least 2: a convolution over one token is not supported")
    return taps
