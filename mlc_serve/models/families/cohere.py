"""Command R and Aya (Cohere, 2024): attention and MLP side by side after one layer norm without bias, rotary
pairs of neighbours, and a factor on the logits.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_layer_norm, same_layers
from mlc_serve.models.interleaved import HalvesOfHeads, halves_of_rows
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_changes import Rows
from mlc_serve.models.weight_names import (
    GATE_UP,
    Part,
    Renaming,
    WeightNames,
    mlc_gate_up_apart,
    renamed,
)

_POSITIONS = RopeStyle(theta=5e5)
_LARGEST_FACTOR = 1e6


def read_cohere(config: Config) -> Decoder:
    """See FAMILIES."""
    norm = read_layer_norm(config, key="layer_norm_eps", bias=False)
    bias = flag(config, "attention_bias")
    head_norm = HeadNorm("layer", norm.epsilon, "each_head") if flag(config, "use_qk_norm") else None
    shape = read_attention(config, same_layers(config, style=_POSITIONS))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias, head_norm=head_norm)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    head = Head(
        is_tied=flag(config, "tie_word_embeddings", default=True),
        scale=number(config, "logit_scale", 0, _LARGEST_FACTOR, 0.0625),
    )
    return read_decoder(config, _names(shape, mlp.inner), Block(attention, mlp, norm, "parallel"), head=head)


def _names(shape: AttentionShape, inner: int) -> WeightNames:
    """Rotary pairs are neighbours in checkpoints, and are sorted into halves of a head here."""
    queries = halves_of_rows(shape.num_q_heads, shape.head_dim)
    keys = halves_of_rows(shape.num_kv_heads, shape.head_dim)
    num_turned = len(queries.order) + len(keys.order)
    fused = Rows(
        (
            *queries.order,
            *(len(queries.order) + row for row in keys.order),
            *range(num_turned, shape.qkv_width),
        )
    )
    qkv = (
        Part("self_attn.q_proj", queries),
        Part("self_attn.k_proj", keys),
        Part("self_attn.v_proj"),
    )
    halves = HalvesOfHeads(shape.head_dim)
    return WeightNames(
        huggingface=(
            Renaming("self_attn.qkv_proj", qkv),
            GATE_UP,
            renamed("self_attn.q_norm", "self_attn.q_norm", change=halves),
            renamed("self_attn.k_norm", "self_attn.k_norm", change=halves),
        ),
        mlc=(
            renamed("self_attn.qkv_proj", "self_attn.qkv_proj", change=fused),
            renamed("self_attn.o_proj", "self_attn.out_proj"),
            mlc_gate_up_apart(inner),
        ),
    )
