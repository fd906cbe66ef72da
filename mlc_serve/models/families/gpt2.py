"""GPT-2 (Radford et al., 2019): learned positions, layer norms, biases, and matrices that are stored
transposed.
"""

from __future__ import annotations

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import (
    read_attention,
    read_context_window,
    read_decoder,
    read_layer_norm,
    read_num_layers,
)
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention, AttentionLayer
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_changes import Change, Transposed, Unchanged
from mlc_serve.models.weight_names import Renaming, WeightNames, renamed

_KEYS = {  # what other families call them
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}


def read_gpt2(config: Config) -> Decoder:
    """See FAMILIES."""
    _check_scores(config)
    config = {**config, **{own: config[key] for key, own in _KEYS.items() if key in config}}
    layers = [AttentionLayer(rope=None)] * read_num_layers(config)
    attention = Attention(read_attention(config, layers), qkv_bias=True, o_bias=True)
    activation = read_activation(config, "activation_function", "gelu_tanh")
    inner = size(config, "n_inner", 4 * size(config, "hidden_size"))
    is_tied = flag(config, "tie_word_embeddings", default=True)
    return read_decoder(
        config,
        _names(is_tied),
        Block(
            attention,
            MLP(inner, activation, is_gated=False, bias=True),
            read_layer_norm(config, key="layer_norm_epsilon"),
        ),
        embedding=Embedding(num_positions=read_context_window(config)),
        head=Head(is_tied),
    )


def _names(is_tied: bool) -> WeightNames:
    """MLC transposes matrices when it converts them, and stores tied embeddings twice. Checkpoints may have
    masks, which are the same for all models.
    """
    return WeightNames(
        huggingface=_modules("", Transposed()),
        mlc=_modules("transformer.", Unchanged()),
        prefixes=("transformer.",),
        mlc_copies=(renamed("transformer.wte", "lm_head"),) if is_tied else (),
        unused=(r"(^|\.)attn\.(masked_)?bias$",),
    )


def _modules(prefix: str, change: Change) -> tuple[Renaming, ...]:
    return (
        renamed("model.embed_tokens", f"{prefix}wte"),
        renamed("model.embed_positions", f"{prefix}wpe"),
        renamed("model.norm", f"{prefix}ln_f"),
        renamed("model.layers", f"{prefix}h"),
        renamed("input_layernorm", "ln_1"),
        renamed("post_attention_layernorm", "ln_2"),
        renamed("self_attn.qkv_proj", "attn.c_attn", change=change),
        renamed("self_attn.o_proj", "attn.c_proj", change=change),
        renamed("mlp.up_proj", "mlp.c_fc", change=change),
        renamed("mlp.down_proj", "mlp.c_proj", change=change),
    )


def _check_scores(config: Config) -> None:
    if flag(config, "scale_attn_by_inverse_layer_idx"):
        raise CheckpointError("scale_attn_by_inverse_layer_idx is not supported")
    if not flag(config, "scale_attn_weights", default=True):
        raise CheckpointError("scale_attn_weights: scores that are not scaled are not supported")
