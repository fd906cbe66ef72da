"""Reads the parts of a decoder from the keys that most families have in common.

All functions raise CheckpointError, which names the key, if a key is missing or malformed, or asks for
something that no part has.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.decoder import Decoder, attention_of
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.rope import Rope
from mlc_serve.models.rope_config import RopeStyle, read_rope
from mlc_serve.models.weight_names import WeightNames

_MOST_LAYERS = 2**17  # a bound, because each layer is described


def read_num_layers(config: Config) -> int:
    """The number of layers."""
    return size(config, "num_hidden_layers", up_to=_MOST_LAYERS)


def read_norm(config: Config, *, key: str = "rms_norm_eps", default: float = 1e-6) -> Norm:
    """An RMS norm with the epsilon `key`."""
    return Norm("rms", size(config, "hidden_size"), number(config, key, 0, 1, default))


def read_layer_norm(config: Config, *, key: str, default: float = 1e-5, bias: bool = True) -> Norm:
    """A layer norm with the epsilon `key`."""
    return Norm("layer", size(config, "hidden_size"), number(config, key, 0, 1, default), bias)


def read_head_dim(config: Config) -> int:
    """The width of a head: its share of the hidden size, unless it is stated."""
    share = size(config, "hidden_size") // size(config, "num_attention_heads")
    return size(config, "head_dim", max(share, 1))


def read_attention(
    config: Config,
    layers: Sequence[AttentionLayer],
    *,
    scale: float | None = None,
    soft_cap: float | None = None,
    has_sinks: bool = False,
) -> AttentionShape:
    """The heads of all layers. By default, scores are divided by the root of a head's width."""
    num_heads, head_dim = size(config, "num_attention_heads"), read_head_dim(config)
    num_kv_heads = size(config, "num_key_value_heads", num_heads)
    if num_heads % num_kv_heads or head_dim % 2:
        raise CheckpointError(
            f"num_attention_heads: {num_heads} attention heads of {head_dim} dimensions can't share "
            f"{num_kv_heads} key-value heads"
        )
    return AttentionShape(
        num_heads,
        num_kv_heads,
        head_dim,
        tuple(layers),
        head_dim**-0.5 if scale is None else scale,
        soft_cap,
        has_sinks,
    )


def same_layers(
    config: Config, windows: Sequence[int | None] | None = None, style: RopeStyle | None = None
) -> list[AttentionLayer]:
    """Layers with the positions that the configuration states, and with these windows."""
    rope = read_rope(config, style)
    return [AttentionLayer(rope, window) for window in windows or [None] * read_num_layers(config)]


def read_context_window(config: Config, rope: Rope | None = None) -> int:
    """The window that the configuration states, or the one that stretched positions reach. MLC's own key
    comes first: it is the one that MLC's users change.
    """
    stated = size(config, "context_window_size", size(config, "max_position_embeddings", 2048))
    return stated if rope is None else rope.context_window(stated)


def read_decoder(
    config: Config,
    names: WeightNames,
    blocks: Block | Sequence[Block],
    *,
    embedding: Embedding | None = None,
    head: Head | None = None,
) -> Decoder:
    """A decoder of these blocks, or of the same block in each layer. Its last norm is like those of the
    blocks; whether the head is tied is read if no `head` is given.
    """
    each = (blocks,) * read_num_layers(config) if isinstance(blocks, Block) else tuple(blocks)
    first = each[0]
    return Decoder(
        vocab_size=size(config, "vocab_size"),
        context_window_size=read_context_window(config, attention_of(each).layers[0].rope),
        names=names,
        embedding=embedding or Embedding(),
        blocks=each,
        norm=first.norm,
        head=head or Head(is_tied=flag(config, "tie_word_embeddings")),
    )
