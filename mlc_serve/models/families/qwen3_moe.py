"""The mixtures of experts among Qwen3 (Yang et al., 2025), in all or some of their layers."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_decoder, read_norm
from mlc_serve.models.expert_config import (
    check_silu,
    expert_names,
    mlc_expert_names,
    read_active,
    sparse_layers,
)
from mlc_serve.models.families.qwen3 import read_qwen3_attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import Experts, Routing
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import GATE_UP, QKV, Renaming, WeightNames, renamed


def read_qwen3_moe(config: Config) -> Decoder:
    """See FAMILIES. Newer configurations call the number of experts num_local_experts."""
    check_silu(config)
    num_experts = size(config, "num_experts", size(config, "num_local_experts", 128))
    experts = Experts(
        num_experts,
        read_active(config, num_experts, 8),
        size(config, "moe_intermediate_size"),
        routing=Routing(renormalized=flag(config, "norm_topk_prob")),
    )
    norm, dense = read_norm(config), MLP(size(config, "intermediate_size"))
    attention = read_qwen3_attention(config, norm.epsilon)
    blocks = [Block(attention, experts if is_sparse else dense, norm) for is_sparse in sparse_layers(config)]
    return read_decoder(config, _names(num_experts), blocks)


def _names(num_experts: int) -> WeightNames:
    of_experts = expert_names(num_experts, "mlp.experts", ("gate_proj", "up_proj"), "down_proj")
    return WeightNames((QKV, GATE_UP, renamed("mlp.router", "mlp.gate"), *of_experts), mlc_qwen(num_experts))


def mlc_qwen(num_experts: int) -> tuple[Renaming, ...]:
    """MLC's names for the mixtures of experts of Qwen2 and Qwen3."""
    return (
        renamed("self_attn.qkv_proj", "self_attn.c_attn"),
        renamed("mlp.router", "mlp.gate"),
        *mlc_expert_names(num_experts, "mlp.moe_gate_up_proj", "mlp.moe_down_proj"),
    )
