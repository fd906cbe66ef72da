"""Which layers of a Qwen model attend to a sliding window, as transformers reads it from a configuration."""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.attention import AttentionKind
from mlc_serve.models.config_values import Config, flag, size

_KINDS = {"full_attention": AttentionKind.FULL, "sliding_attention": AttentionKind.WINDOW}


def window_kinds(config: Config, num_layers: int, context_window_size: int) -> tuple[AttentionKind, ...]:
    """The kind of each layer. A window that holds the whole context is full attention.

    Raises CheckpointError for values of the wrong type, and for `layer_types` that are unknown or too few.
    """
    if not flag(config, "use_sliding_window") or config.get("sliding_window", 4096) is None:
        return (AttentionKind.FULL,) * num_layers
    kinds = _listed_kinds(config, num_layers) or _kinds_from(config, num_layers)
    window = size(config, "sliding_window", 4096)
    return kinds if window < context_window_size else (AttentionKind.FULL,) * num_layers


def _listed_kinds(config: Config, num_layers: int) -> tuple[AttentionKind, ...] | None:
    """Return the kinds that `layer_types` lists; None if there is no such key."""
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


def _kinds_from(config: Config, num_layers: int) -> tuple[AttentionKind, ...]:
    """Return the kinds if `layer_types` is missing: the first `max_window_layers` layers have no window."""
    first = 0 if config.get("max_window_layers") == 0 else size(config, "max_window_layers", 28)
    num_full = min(first, num_layers)
    return (AttentionKind.FULL,) * num_full + (AttentionKind.WINDOW,) * (num_layers - num_full)
