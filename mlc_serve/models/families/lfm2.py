"""LFM2 (Liquid AI, 2025): most layers have a short convolution in the place of attention. Those that attend
are like Qwen3's.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, read_num_layers
from mlc_serve.models.hybrid_config import ATTENDS, check_types, read_taps
from mlc_serve.models.parts.attention import Attention, AttentionLayer
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Head
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.parts.short_conv import ShortConv
from mlc_serve.models.rope_config import RopeStyle, read_rope
from mlc_serve.models.weight_names import QKV, WeightNames, renamed

_THETA = 1000000.0  # where the configuration does not say
_CONVOLVES = "conv"

_NAMES = WeightNames(
    huggingface=(
        renamed("input_layernorm", "operator_norm"),
        renamed("post_attention_layernorm", "ffn_norm"),
        renamed("model.norm", "model.embedding_norm"),
        QKV,
        renamed("self_attn.o_proj", "self_attn.out_proj"),
        renamed("self_attn.q_norm", "self_attn.q_layernorm"),
        renamed("self_attn.k_norm", "self_attn.k_layernorm"),
        renamed("self_attn.conv", "conv.conv"),
        renamed("self_attn.conv_in_proj", "conv.in_proj"),
        renamed("self_attn.conv_out_proj", "conv.out_proj"),
        renamed("mlp.gate_up_proj", "feed_forward.w1", "feed_forward.w3"),
        renamed("mlp.down_proj", "feed_forward.w2"),
    )
)


def read_lfm2(config: Config) -> Decoder:
    """See FAMILIES."""
    norm, types = read_norm(config, key="norm_eps", default=1e-5), _types(config)
    rope = read_rope(config, RopeStyle(theta=_THETA))
    shape = read_attention(config, [AttentionLayer(rope)] * types.count(ATTENDS))
    attention = Attention(shape, head_norm=HeadNorm("rms", norm.epsilon))
    conv = ShortConv(norm.width, read_taps(config, "conv_L_cache", 3), flag(config, "conv_bias"))
    mlp = MLP(_read_inner(config))
    tied = flag(config, "tie_embedding", default=flag(config, "tie_word_embeddings", default=True))
    blocks = [Block(attention if kind == ATTENDS else conv, mlp, norm) for kind in types]
    return read_decoder(config, _NAMES, blocks, head=Head(is_tied=tied))


def _read_inner(config: Config) -> int:
    """The width of the MLP, which the configuration states in full, before it is adjusted."""
    stated = size(config, "block_ff_dim", size(config, "intermediate_size", 12288))
    if not flag(config, "block_auto_adjust_ff_dim", default=True):
        return stated
    multiple = size(config, "block_multiple_of", 256)
    adjusted = int(number(config, "block_ffn_dim_multiplier", 0, 1e3, 1.0) * (2 * stated // 3))
    return -(-adjusted // multiple) * multiple


def _types(config: Config) -> list[str]:
    """What each layer has."""
    count, types = read_num_layers(config), config.get("layer_types")
    attending = config.get("full_attn_idxs")
    if types is None and isinstance(attending, list):
        types = [ATTENDS if layer in attending else _CONVOLVES for layer in range(count)]
    return check_types(types, count, _CONVOLVES)
