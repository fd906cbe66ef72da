"""Reads what configurations of models have in common of which some layers attend and others are recurrent.

All functions raise CheckpointError, which names the key.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_context_window
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.weight_names import WeightNames

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


def read_hybrid(
    config: Config, names: WeightNames, blocks: Sequence[Block], *, tied: bool | None = None
) -> Decoder:
    """A decoder of these blocks. Whether the head is tied is read if `tied` is not given."""
    rope = next(
        block.attention.shape.layers[0].rope for block in blocks if isinstance(block.attention, Attention)
    )
    return Decoder(
        vocab_size=size(config, "vocab_size"),
        context_window_size=read_context_window(config, rope),
        names=names,
        embedding=Embedding(),
        blocks=tuple(blocks),
        norm=blocks[0].norm,
        head=Head(is_tied=flag(config, "tie_word_embeddings") if tied is None else tied),
    )
