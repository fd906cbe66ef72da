"""StarCoder2 (Lozhkov et al., 2024): layer norms, biases, an MLP without a gate, and a sliding window."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import (
    read_attention,
    read_decoder,
    read_layer_norm,
    same_layers,
)
from mlc_serve.models.layer_types import window_of_all
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import QKV, WeightNames, renamed

_MLP = (renamed("mlp.up_proj", "mlp.c_fc"), renamed("mlp.down_proj", "mlp.c_proj"))


def read_starcoder2(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "use_bias", default=True)
    windows = window_of_all(config)
    attention = Attention(read_attention(config, same_layers(config, windows)), qkv_bias=bias, o_bias=bias)
    activation = read_activation(config, default="gelu_tanh")
    mlp = MLP(size(config, "intermediate_size"), activation, is_gated=False, bias=bias)
    norm = read_layer_norm(config, key="norm_epsilon")
    head = Head(is_tied=flag(config, "tie_word_embeddings", default=True))
    return read_decoder(config, _names(head.is_tied), Block(attention, mlp, norm), head=head)


def _names(is_tied: bool) -> WeightNames:
    """MLC stores tied embeddings twice."""
    return WeightNames(
        huggingface=(QKV, *_MLP),
        mlc=(renamed("self_attn.qkv_proj", "self_attn.wqkv_pack"), *_MLP),
        mlc_copies=(renamed("model.embed_tokens", "lm_head"),) if is_tied else (),
    )
