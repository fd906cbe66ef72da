"""Mixtral (Jiang et al., 2024): a Mistral whose MLPs are mixtures of experts."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.expert_config import check_silu, expert_names, mlc_expert_names, read_active
from mlc_serve.models.layer_types import window_of_all
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import Experts, Routing
from mlc_serve.models.rope_config import RopeStyle
from mlc_serve.models.weight_names import QKV, WeightNames, renamed

_POSITIONS = RopeStyle(theta=1e6)


def read_mixtral(config: Config) -> Decoder:
    """See FAMILIES."""
    check_silu(config)
    num_experts = size(config, "num_local_experts", 8)
    experts = Experts(
        num_experts,
        read_active(config, num_experts, 2),
        size(config, "intermediate_size"),
        routing=Routing(renormalized=True),
    )
    attention = Attention(read_attention(config, same_layers(config, window_of_all(config), _POSITIONS)))
    norm = read_norm(config, default=1e-5)
    return read_decoder(config, _names(num_experts), Block(attention, experts, norm))


def _names(num_experts: int) -> WeightNames:
    of_experts = expert_names(num_experts, "block_sparse_moe.experts", ("w1", "w3"), "w2")
    return WeightNames(
        huggingface=(QKV, renamed("mlp.router", "block_sparse_moe.gate"), *of_experts),
        mlc=(renamed("mlp.router", "moe.gate"), *mlc_expert_names(num_experts, "moe.e1_e3", "moe.e2")),
    )
