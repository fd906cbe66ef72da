"""The window through which a model sees whole sequences: a setting that becomes part of its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.config_values import Config
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.parts.attention import Attention, AttentionLayer
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.latent_attention import LatentAttention

# The most tokens of a sequence, where no context window bounds it. What a sequence keeps is bounded, but
# the server remembers its tokens.
LONGEST_SEQUENCE = 2**20

_KEY = "whole_sequence_window"  # the key that for_window adds


def for_window(config: Config, window: SlidingWindow | None) -> dict[str, Any]:
    """The configuration of a model that sees whole sequences through a window; None means none, even if the
    configuration has one.
    """
    rest = {key: value for key, value in config.items() if key != _KEY}
    return rest if window is None else {**rest, _KEY: [window.size, window.sinks]}


def window_of(config: Config) -> SlidingWindow | None:
    """The window that for_window has stated."""
    stated: Any = config.get(_KEY)
    return None if stated is None else SlidingWindow(*stated)


def in_window(architecture: Architecture, config: Config) -> Architecture:
    """The architecture with the window that its configuration states. A layer's own window takes precedence
    if it is as narrow.

    Raises CheckpointError for a model that can't follow such a window.
    """
    window = window_of(config)
    if window is None:
        return architecture
    if not isinstance(architecture, Decoder) or architecture.recurrence is not None:
        raise _refusal("layers with a recurrent state see whole sequences")
    if architecture.embedding.num_positions is not None:
        raise _refusal("the model has learned positions, which end at its context window")
    if any(isinstance(block.attention, LatentAttention) for block in architecture.blocks):
        raise _refusal("latent attention has no windows")
    if any(layer.rope and layer.rope.query_scaling for layer in architecture.attention.layers):
        raise _refusal("the model scales queries by their position")
    blocks = tuple(_windowed_block(block, window) for block in architecture.blocks)
    is_bounded = config.get("context_window_size") is not None
    length = architecture.context_window_size if is_bounded else LONGEST_SEQUENCE
    return replace(architecture, blocks=blocks, window=window, context_window_size=length)


def _refusal(reason: str) -> CheckpointError:
    return CheckpointError(f"sliding_window_size is not supported for this model: {reason}")


def _windowed_block(block: Block, window: SlidingWindow) -> Block:
    attention = block.attention
    if not isinstance(attention, Attention):
        return block
    layers = tuple(_windowed_layer(layer, window) for layer in attention.shape.layers)
    return replace(block, attention=replace(attention, shape=replace(attention.shape, layers=layers)))


def _windowed_layer(layer: AttentionLayer, window: SlidingWindow) -> AttentionLayer:
    if layer.window is not None and layer.window <= window.recent:
        return layer
    return replace(layer, window=window.recent, anchors=window.sinks)
