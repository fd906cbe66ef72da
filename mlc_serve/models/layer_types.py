"""Which layers have full attention and which a sliding window, as transformers reads it from a configuration.

A window that holds the whole context is none. All functions raise CheckpointError, which names the key, for
values of the wrong type, and for `layer_types` that are unknown or too few.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, index, size
from mlc_serve.models.decoder_config import read_context_window, read_num_layers

FULL, SLIDING = "full_attention", "sliding_attention"
_WINDOW = 4096  # where the configuration does not say


def read_layer_types(config: Config, *, full_every: int = 1) -> list[str]:
    """The type of each layer, FULL or SLIDING. If none are listed, each layer whose number is a multiple of
    `full_every`, counted from 1, has full attention.
    """
    return _listed(config) or [
        SLIDING if (layer + 1) % full_every else FULL for layer in range(read_num_layers(config))
    ]


def windows_of(config: Config, types: Sequence[str]) -> list[int | None]:
    """The window of each layer of these types."""
    if SLIDING not in types or config.get("sliding_window", _WINDOW) is None:
        return [None] * len(types)
    window = size(config, "sliding_window", _WINDOW)
    is_needed = window < read_context_window(config)
    return [window if is_needed and kind == SLIDING else None for kind in types]


def window_of_all(config: Config) -> list[int | None]:
    """The window of each layer in a family whose layers all have the same, which may be null for none."""
    is_windowed = config.get("sliding_window") is not None
    return windows_of(config, [SLIDING if is_windowed else FULL] * read_num_layers(config))


def qwen_windows(config: Config) -> list[int | None]:
    """The window of each layer of a Qwen model. If the types are not listed, the first `max_window_layers`
    layers have none.
    """
    if not flag(config, "use_sliding_window"):
        return [None] * read_num_layers(config)
    return windows_of(config, _listed(config) or _first_full(config))


def check_layer_types(config: Config, windows: Sequence[int | None]) -> None:
    """Refuse a list of types that says something else than the windows that were read. Families whose layers
    are all alike don't read it.
    """
    listed = _listed({**config, "num_hidden_layers": len(windows)}) or []
    for number, (kind, window) in enumerate(zip(listed, windows, strict=False)):
        if window is not None and kind == FULL:
            raise CheckpointError(f"layer_types: layer {number} has a sliding window in this family")
        if window is None and kind == SLIDING and _is_narrow(config):
            raise CheckpointError(f"layer_types: layer {number} has no sliding window in this family")


def _is_narrow(config: Config) -> bool:
    """Whether the configuration states a window that is smaller than the context."""
    window = config.get("sliding_window")
    return window is not None and size(config, "sliding_window") < read_context_window(config)


def _first_full(config: Config) -> list[str]:
    num_layers, first = read_num_layers(config), index(config, "max_window_layers", 28)
    return [FULL if layer < first else SLIDING for layer in range(num_layers)]


def _listed(config: Config) -> list[str] | None:
    """Return what `layer_types` lists; None if there is no such key."""
    num_layers, listed = read_num_layers(config), config.get("layer_types")
    if listed is None:
        return None
    if not isinstance(listed, list) or len(listed) < num_layers:
        raise CheckpointError(f"layer_types must list {num_layers} layers, not {reprlib.repr(listed)}")
    for kind in listed[:num_layers]:
        if kind not in (FULL, SLIDING):
            raise CheckpointError(
                f"layer_types: {reprlib.repr(kind)} is not supported, only {FULL}, {SLIDING}"
            )
    return listed[:num_layers]
