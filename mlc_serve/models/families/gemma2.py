"""Gemma 2 (Riviere et al., 2024): norms before and after attention and MLP, soft caps on scores and logits,
and a sliding window in every other layer.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, optional_number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.families.gemma import HEAD_DIM, less_one, scaled_embedding
from mlc_serve.models.layer_types import read_layer_types, windows_of
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import GATE_UP, QKV, WeightNames, renamed

_LARGEST_CAP = 1e6

SANDWICH_NORMS = (
    less_one("input_layernorm"),
    less_one("post_attention_layernorm", "pre_feedforward_layernorm"),
    less_one("attention_output_norm", "post_attention_layernorm"),
    less_one("mlp_output_norm", "post_feedforward_layernorm"),
    less_one("model.norm"),
)
MLC_SANDWICH_NORMS = (
    renamed("post_attention_layernorm", "pre_feedforward_layernorm"),
    renamed("attention_output_norm", "post_attention_layernorm"),
    renamed("mlp_output_norm", "post_feedforward_layernorm"),
)
_NAMES = WeightNames(huggingface=(QKV, GATE_UP, *SANDWICH_NORMS), mlc=MLC_SANDWICH_NORMS)


def read_gemma2(config: Config) -> Decoder:
    """See FAMILIES."""
    sized = {**config, "head_dim": size(config, "head_dim", HEAD_DIM)}
    bias = flag(config, "attention_bias")
    types = read_layer_types(config, full_every=2)
    shape = read_attention(
        sized,
        same_layers(sized, windows_of(config, types)),
        scale=size(config, "query_pre_attn_scalar", HEAD_DIM) ** -0.5,
        soft_cap=soft_cap(config, "attn_logit_softcapping", 50.0),
    )
    mlp = MLP(size(config, "intermediate_size"), read_activation(config, "hidden_activation", "gelu_tanh"))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias)
    return read_decoder(
        config,
        _NAMES,
        Block(attention, mlp, read_norm(config), "sandwich"),
        embedding=scaled_embedding(config),
        head=soft_head(config, 30.0),
    )


def soft_head(config: Config, default_cap: float | None) -> Head:
    """A head that is tied unless the configuration says otherwise, with a soft cap if it states one."""
    cap = soft_cap(config, "final_logit_softcapping", default_cap)
    return Head(is_tied=flag(config, "tie_word_embeddings", default=True), soft_cap=cap)


def soft_cap(config: Config, key: str, default: float | None) -> float | None:
    """A soft cap, which may be null for none."""
    return optional_number(config, key, 0, _LARGEST_CAP, default)
