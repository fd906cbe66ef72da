"""The text models of Gemma 3 (Kamath et al., 2025): like Gemma 2 without soft caps, with normalised queries
and keys, a window in five of six layers, and a rotary base of their own for these.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm
from mlc_serve.models.families.gemma import HEAD_DIM, less_one, scaled_embedding
from mlc_serve.models.families.gemma2 import MLC_SANDWICH_NORMS, SANDWICH_NORMS, soft_cap, soft_head
from mlc_serve.models.layer_types import read_layer_types, windows_of
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionLayer, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle, read_ropes
from mlc_serve.models.weight_names import GATE_UP, QKV, WeightNames, mlc_qkv_apart, renamed

_POSITIONS = RopeStyle(theta=1e6, local_theta=1e4)


def read_gemma3_text(config: Config) -> Decoder:
    """See FAMILIES."""
    sized = {**config, "head_dim": size(config, "head_dim", HEAD_DIM)}
    norm, bias = read_norm(config), flag(config, "attention_bias")
    shape = read_attention(
        sized,
        _layers(sized),
        scale=size(config, "query_pre_attn_scalar", HEAD_DIM) ** -0.5,
        soft_cap=soft_cap(config, "attn_logit_softcapping", None),
    )
    mlp = MLP(size(config, "intermediate_size"), read_activation(config, "hidden_activation", "gelu_tanh"))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias, head_norm=HeadNorm("rms", norm.epsilon))
    return read_decoder(
        config,
        _names(shape),
        Block(attention, mlp, norm, "sandwich"),
        embedding=scaled_embedding(config),
        head=soft_head(config, None),
    )


def _names(shape: AttentionShape) -> WeightNames:
    return WeightNames(
        huggingface=(
            QKV,
            GATE_UP,
            *SANDWICH_NORMS,
            less_one("self_attn.q_norm"),
            less_one("self_attn.k_norm"),
        ),
        mlc=(renamed("model", "language_model.model"), mlc_qkv_apart(shape), *MLC_SANDWICH_NORMS),
    )


def _layers(config: Config) -> list[AttentionLayer]:
    types = read_layer_types(config, full_every=size(config, "sliding_window_pattern", 6))
    windows, ropes = windows_of(config, types), read_ropes(config, types, _POSITIONS)
    return [AttentionLayer(rope, window) for rope, window in zip(ropes, windows, strict=True)]
