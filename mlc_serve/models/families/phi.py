"""Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al., 2023): attention and MLP side by side after one layer norm,
biases everywhere, and a part of each head turned.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_layer_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_names import QKV, WeightNames, renamed

_POSITIONS = RopeStyle(part=0.5)
MLC_MODULES = (
    renamed("model.embed_tokens", "transformer.embd"),
    renamed("model.layers", "transformer.h"),
    renamed("lm_head", "lm_head.linear"),
    renamed("input_layernorm", "ln"),
    renamed("model.norm", "lm_head.ln"),
    renamed("self_attn.qkv_proj", "mixer.Wqkv"),
    renamed("self_attn.o_proj", "mixer.out_proj"),
    renamed("mlp.up_proj", "mlp.fc1"),
    renamed("mlp.down_proj", "mlp.fc2"),
)
_NAMES = WeightNames(
    huggingface=(
        QKV,
        renamed("self_attn.o_proj", "self_attn.dense"),
        renamed("self_attn.q_norm", "self_attn.q_layernorm"),
        renamed("self_attn.k_norm", "self_attn.k_layernorm"),
        renamed("mlp.up_proj", "mlp.fc1"),
        renamed("mlp.down_proj", "mlp.fc2"),
        renamed("model.norm", "model.final_layernorm"),
    ),
    mlc=MLC_MODULES,
)


def read_phi(config: Config, names: WeightNames = _NAMES) -> Decoder:
    """See FAMILIES. The checkpoints that were published first have other `names`."""
    norm = read_layer_norm(config, key="layer_norm_eps")
    head_norm = HeadNorm("layer", norm.epsilon, bias=True) if flag(config, "qk_layernorm") else None
    shape = read_attention(config, same_layers(config, style=_POSITIONS))
    attention = Attention(shape, qkv_bias=True, o_bias=True, head_norm=head_norm)
    activation = read_activation(config, default="gelu_tanh")
    mlp = MLP(size(config, "intermediate_size"), activation, is_gated=False, bias=True)
    return read_decoder(
        config,
        names,
        Block(attention, mlp, norm, "parallel"),
        head=Head(is_tied=flag(config, "tie_word_embeddings"), bias=True),
    )
