"""OLMo 2 (Walsh et al., 2025): a Llama that normalises the results of attention and MLP instead of their
inputs, and all queries and all keys as one row.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import GATE_UP, QKV, WeightNames, renamed

_NORMS = (
    renamed("attention_output_norm", "post_attention_layernorm"),
    renamed("mlp_output_norm", "post_feedforward_layernorm"),
)
_NAMES = WeightNames(huggingface=(QKV, GATE_UP, *_NORMS), mlc=_NORMS)


def read_olmo2(config: Config) -> Decoder:
    """See FAMILIES."""
    norm, bias = read_norm(config, default=1e-5), flag(config, "attention_bias")
    head_norm = HeadNorm("rms", norm.epsilon, "all_heads")
    shape = read_attention(config, same_layers(config))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias, head_norm=head_norm)
    mlp = MLP(size(config, "intermediate_size"), read_activation(config))
    return read_decoder(config, _NAMES, Block(attention, mlp, norm, "post"))
