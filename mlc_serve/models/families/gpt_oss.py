"""gpt-oss (OpenAI, 2025): mixtures of experts with biases and a clamped SwiGLU, learned attention sinks, and
a sliding window in every other layer.
"""

from __future__ import annotations

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.expert_config import read_active
from mlc_serve.models.layer_types import read_layer_types, windows_of
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import ClampedSwiGLU, Experts, Routing
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_changes import Both, PairsApart, Stacked
from mlc_serve.models.weight_names import QKV, WeightNames, renamed

_POSITIONS = RopeStyle(theta=150000.0)
_HEAD_DIM = 64  # where the configuration does not say
_LARGEST = 1e3


def read_gpt_oss(config: Config) -> Decoder:
    """See FAMILIES."""
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"hidden_act {config['hidden_act']!r} is not supported, only 'silu'")
    bias = flag(config, "attention_bias", default=True)
    attention = Attention(_shape(config), qkv_bias=bias, o_bias=bias)
    experts = _experts(config)
    block = Block(attention, experts, read_norm(config, default=1e-5))
    return read_decoder(config, _names(experts), block)


def _shape(config: Config) -> AttentionShape:
    """Without a list of types, layers with a window and others take turns."""
    sized = {**config, "head_dim": size(config, "head_dim", _HEAD_DIM)}
    types = read_layer_types(config, full_every=2)
    windows = windows_of({"sliding_window": 128, **config}, types)
    return read_attention(sized, same_layers(sized, windows, _POSITIONS), has_sinks=True)


def _experts(config: Config) -> Experts:
    num_experts = size(config, "num_local_experts", 128)
    return Experts(
        num_experts,
        read_active(config, num_experts, 4),
        size(config, "intermediate_size"),
        ClampedSwiGLU(
            number(config, "swiglu_alpha", 0, _LARGEST, 1.702),
            number(config, "swiglu_limit", 0, _LARGEST, 7.0),
        ),
        Routing(renormalized=True, bias=True),
        bias=True,
    )


def _names(part: Experts) -> WeightNames:
    """Checkpoints have the matrices of all experts in one tensor, transposed, with each column of gate before
    that of up.
    """
    experts, apart = "mlp.experts", PairsApart(part.inner)
    gate_up, down = f"{experts}.gate_up_proj", f"{experts}.down_proj"
    matrix, vector = Stacked(part.num_experts, transposed=True), Stacked(part.num_experts, axes=2)
    return WeightNames(
        huggingface=(
            QKV,
            renamed("self_attn.attend.sinks", "self_attn.sinks"),
            renamed(f"{gate_up}.weight", gate_up, change=Both(matrix, apart)),
            renamed(f"{gate_up}.bias", f"{gate_up}_bias", change=Both(vector, apart)),
            renamed(f"{down}.weight", down, change=matrix),
            renamed(f"{down}.bias", f"{down}_bias", change=vector),
        )
    )
