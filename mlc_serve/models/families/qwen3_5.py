"""The text models of Qwen 3.5: three of four layers have a gated delta rule in the place of attention, and
attention has a gate. Norms are stored less one, except for those of the gated delta rule.
"""

from __future__ import annotations

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, read_num_layers
from mlc_serve.models.families.gemma import less_one
from mlc_serve.models.hybrid_config import ATTENDS, check_types, read_taps
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionLayer, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.gated_delta import DeltaHeads, GatedDelta
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle, read_rope
from mlc_serve.models.weight_changes import SomeRows
from mlc_serve.models.weight_names import GATE_UP, Part, Renaming, WeightNames, renamed

_RECURRENT = "linear_attention"
_HEAD_DIM = 256  # where the configuration does not say
_POSITIONS = RopeStyle(part=0.25)


def read_qwen3_5_text(config: Config) -> Decoder:
    """See FAMILIES."""
    norm, types = read_norm(config), _types(config)
    sized = {**config, "head_dim": size(config, "head_dim", _HEAD_DIM)}
    rope, bias = read_rope(sized, _POSITIONS), flag(config, "attention_bias")
    shape = read_attention(sized, [AttentionLayer(rope)] * types.count(ATTENDS))
    head_norm = HeadNorm("rms", norm.epsilon)
    attention = Attention(shape, qkv_bias=bias, o_bias=bias, head_norm=head_norm, is_gated=True)
    delta = _read_delta(config, norm.epsilon)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    blocks = [Block(attention if kind == ATTENDS else delta, mlp, norm) for kind in types]
    return read_decoder(config, _names(shape), blocks)


def _types(config: Config) -> list[str]:
    """What each layer has: by default, each fourth attends."""
    count, every = read_num_layers(config), size(config, "full_attention_interval", 4)
    default = [_RECURRENT if (layer + 1) % every else ATTENDS for layer in range(count)]
    return check_types(config.get("layer_types") or default, count, _RECURRENT)


def _read_delta(config: Config, epsilon: float) -> GatedDelta:
    heads = DeltaHeads(
        num_k_heads=size(config, "linear_num_key_heads", 16),
        num_v_heads=size(config, "linear_num_value_heads", 32),
        key_dim=size(config, "linear_key_head_dim", 128),
        value_dim=size(config, "linear_value_head_dim", 128),
    )
    if heads.num_v_heads % heads.num_k_heads:
        raise CheckpointError(
            f"linear_num_value_heads: {heads.num_v_heads} heads can't share {heads.num_k_heads} heads of keys"
        )
    return GatedDelta(heads, read_taps(config, "linear_conv_kernel_dim", 4), epsilon)


def _names(shape: AttentionShape) -> WeightNames:
    """A checkpoint has the queries and the gates of each head side by side."""
    queries, gates = (_half_of_heads(shape, half) for half in range(2))
    return WeightNames(
        huggingface=(
            Renaming(
                "self_attn.qkv_proj",
                (
                    Part("self_attn.q_proj", queries),
                    Part("self_attn.k_proj"),
                    Part("self_attn.v_proj"),
                ),
            ),
            renamed("self_attn.gate_proj", "self_attn.q_proj", change=gates),
            GATE_UP,
            *map(less_one, ("input_layernorm", "post_attention_layernorm", "model.norm")),
            *map(less_one, ("self_attn.q_norm", "self_attn.k_norm")),
            renamed("self_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "linear_attn.in_proj_z"),
            renamed("self_attn.in_proj_ba", "linear_attn.in_proj_b", "linear_attn.in_proj_a"),
            renamed("self_attn.conv1d", "linear_attn.conv1d"),
            renamed("self_attn.A_log", "linear_attn.A_log"),
            renamed("self_attn.dt_bias", "linear_attn.dt_bias"),
            renamed("self_attn.delta_norm", "linear_attn.norm"),
            renamed("self_attn.delta_out_proj", "linear_attn.out_proj"),
        )
    )


def _half_of_heads(shape: AttentionShape, half: int) -> SomeRows:
    """The first or the second half of each head of twice the width."""
    width = shape.head_dim
    firsts = ((2 * head + half) * width for head in range(shape.num_q_heads))
    rows = tuple(row for first in firsts for row in range(first, first + width))
    return SomeRows(rows, num_stored=2 * shape.q_width)
