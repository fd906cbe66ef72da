"""Which layers of a Qwen model attend to a sliding window, as transformers reads it from a configuration."""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size

_KINDS = {"full_attention": False, "sliding_attention": True}  # whether a layer has a window


def read_windows(config: Config, num_layers: int, context_window_size: int) -> tuple[int | None, ...]:
    """The window of each layer. A window that holds the whole context is none.

    Raises CheckpointError for values of the wrong type, and for `layer_types` that are unknown or too few.
    """
    if not flag(config, "use_sliding_window") or config.get("sliding_window", 4096) is None:
        return (None,) * num_layers
    are_windowed = _listed_kinds(config, num_layers) or _kinds_from(config, num_layers)
    window = size(config, "sliding_window", 4096)
    is_needed = window < context_window_size
    return tuple(window if is_needed and is_windowed else None for is_windowed in are_windowed)


def _listed_kinds(config: Config, num_layers: int) -> tuple[bool, ...] | None:
    """Return whether each layer has a window, as `layer_types` lists it; None if there is no such key."""
    listed = config.get("layer_types")
    if listed is None:
        return None
    if not isinstance(listed, list) or len(listed) < num_layers:
        raise CheckpointError(f"layer_types must list {num_layers} layers, not {reprlib.repr(listed)}")
    for kind in listed[:num_layers]:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise CheckpointError(
                f"layer_types: {reprlib.repr(kind)} is not supported, only {', '.join(_KINDS)}"
            )
    return tuple(_KINDS[kind] for kind in listed[:num_layers])


def _kinds_from(config: Config, num_layers: int) -> tuple[bool, ...]:
    """Return the same if `layer_types` is missing: the first `max_window_layers` layers have no window."""
    first = 0 if config.get("max_window_layers") == 0 else size(config, "max_window_layers", 28)
    num_full = min(first, num_layers)
    return (False,) * num_full + (True,) * (num_layers - num_full)
