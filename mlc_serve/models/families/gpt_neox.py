"""GPT-NeoX and Pythia (Black et al., 2022): layer norms, biases, a part of each head turned, and mostly
attention and MLP side by side.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_layer_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_changes import Rows
from mlc_serve.models.weight_names import WeightNames, renamed

_POSITIONS = RopeStyle(theta_key="rotary_emb_base", part=0.25, part_key="rotary_pct")
_MODULES = (
    renamed("model.embed_tokens", "gpt_neox.embed_in"),
    renamed("model.norm", "gpt_neox.final_layer_norm"),
    renamed("lm_head", "embed_out"),
    renamed("model.layers", "gpt_neox.layers"),
    renamed("self_attn.o_proj", "attention.dense"),
    renamed("mlp.up_proj", "mlp.dense_h_to_4h"),
    renamed("mlp.down_proj", "mlp.dense_4h_to_h"),
)


def read_gpt_neox(config: Config) -> Decoder:
    """See FAMILIES."""
    bias = flag(config, "attention_bias", default=True)
    shape = read_attention(config, same_layers(config, style=_POSITIONS))
    attention = Attention(shape, qkv_bias=bias, o_bias=bias)
    activation = read_activation(config, default="gelu")
    mlp = MLP(size(config, "intermediate_size"), activation, is_gated=False, bias=True)
    is_parallel = flag(config, "use_parallel_residual", default=True)
    norm = read_layer_norm(config, key="layer_norm_eps")
    block = Block(attention, mlp, norm, "parallel_norms" if is_parallel else "sequential")
    return read_decoder(config, _names(shape), block)


def _names(shape: AttentionShape) -> WeightNames:
    """MLC sorts queries, keys and values when it converts them. Checkpoints may have masks, which are the
    same for all models.
    """
    qkv = "self_attn.qkv_proj", "attention.query_key_value"
    return WeightNames(
        huggingface=(*_MODULES, renamed(*qkv, change=_heads_apart(shape))),
        mlc=(*_MODULES, renamed(*qkv)),
        unused=(r"\.attention\.(masked_)?bias$",),
    )


def _heads_apart(shape: AttentionShape) -> Rows:
    """Checkpoints have query, key and value of the first head, then those of the next one."""
    num_heads, head_dim = shape.num_q_heads, shape.head_dim
    return Rows(
        tuple(
            (3 * head + part) * head_dim + row
            for part in range(3)
            for head in range(num_heads)
            for row in range(head_dim)
        )
    )
