"""Gemma (Mesnard et al., 2024): a Llama with scaled embeddings and GELU, whose norms are stored less one."""

from __future__ import annotations

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_changes import PlusOne
from mlc_serve.models.weight_names import GATE_UP, QKV, Renaming, WeightNames, renamed

HEAD_DIM = 256  # where the configuration does not say


def less_one(own: str, stored: str | None = None) -> Renaming:
    """The weight of a norm, which is stored less one. MLC adds the one when it converts a Gemma."""
    return renamed(f"{own}.weight", f"{stored or own}.weight", change=PlusOne())


_NAMES = WeightNames(
    huggingface=(
        QKV,
        GATE_UP,
        less_one("input_layernorm"),
        less_one("post_attention_layernorm"),
        less_one("model.norm"),
    )
)


def read_gemma(config: Config) -> Decoder:
    """See FAMILIES. Old configurations say "gelu" and mean its form with tanh, as transformers knows."""
    sized = {**config, "head_dim": size(config, "head_dim", HEAD_DIM)}
    bias = flag(config, "attention_bias")
    attention = Attention(read_attention(sized, same_layers(sized)), qkv_bias=bias, o_bias=bias)
    _check_activation(config)
    mlp = MLP(size(config, "intermediate_size"), "gelu_tanh")
    return read_decoder(
        config,
        _NAMES,
        Block(attention, mlp, read_norm(config)),
        embedding=scaled_embedding(config),
        head=Head(is_tied=flag(config, "tie_word_embeddings", default=True)),
    )


def _check_activation(config: Config) -> None:
    activation = read_activation(config, default="gelu_tanh")
    if activation not in ("gelu", "gelu_tanh"):
        raise CheckpointError(f"hidden_act {config['hidden_act']!r} is not supported here, only gelu")


def scaled_embedding(config: Config) -> Embedding:
    """Embeddings are multiplied by the root of their width."""
    return Embedding(scale=size(config, "hidden_size") ** 0.5)
