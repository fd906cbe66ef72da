"""StableLM (Bellagente et al., 2024): layer norms, a part of each head turned, and in some models attention
and MLP side by side, and normalised queries and keys.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_layer_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.block import Arrangement, Block
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_changes import Row
from mlc_serve.models.weight_names import GATE_UP, QKV, Part, Renaming, WeightNames

_POSITIONS = RopeStyle(part=0.25)


def read_stablelm(config: Config) -> Decoder:
    """See FAMILIES."""
    norm = read_layer_norm(config, key="layer_norm_eps")
    shape = read_attention(config, same_layers(config, style=_POSITIONS))
    head_norm = HeadNorm("layer", norm.epsilon, "each_head") if flag(config, "qk_layernorm") else None
    attention = Attention(shape, qkv_bias=flag(config, "use_qkv_bias"), head_norm=head_norm)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    arrangement: Arrangement = "parallel" if flag(config, "use_parallel_residual") else "sequential"
    return read_decoder(config, _names(shape), Block(attention, mlp, norm, arrangement))


def _names(shape: AttentionShape) -> WeightNames:
    """Each head's norm is a tensor of its own."""
    return WeightNames(
        huggingface=(
            QKV,
            GATE_UP,
            _head_norms("self_attn.q_norm", "self_attn.q_layernorm", shape.num_q_heads),
            _head_norms("self_attn.k_norm", "self_attn.k_layernorm", shape.num_kv_heads),
        )
    )


def _head_norms(own: str, stored: str, num_heads: int) -> Renaming:
    return Renaming(own, tuple(Part(f"{stored}.norms.{head}", Row()) for head in range(num_heads)))
