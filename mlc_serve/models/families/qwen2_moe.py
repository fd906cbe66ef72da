"""Qwen1.5-MoE and Qwen2-MoE (Yang et al., 2024): a Qwen2 with mixtures of experts, beside an expert that sees
all tokens, in all or some of its layers.
"""

from __future__ import annotations

from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_decoder, read_norm, same_layers
from mlc_serve.models.expert_config import check_silu, expert_names, read_active, sparse_layers
from mlc_serve.models.families.qwen3_moe import mlc_qwen
from mlc_serve.models.layer_types import qwen_windows
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import Experts, Routing
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.weight_names import GATE_UP, QKV, WeightNames, renamed


def read_qwen2_moe(config: Config) -> Decoder:
    """See FAMILIES."""
    check_silu(config)
    num_experts = size(config, "num_experts", 60)
    experts = Experts(
        num_experts,
        read_active(config, num_experts, 4),
        size(config, "moe_intermediate_size"),
        routing=Routing(renormalized=flag(config, "norm_topk_prob")),
        shared=size(config, "shared_expert_intermediate_size"),
        shared_gate=True,
    )
    shape = read_attention(config, same_layers(config, qwen_windows(config)))
    attention, norm = Attention(shape, qkv_bias=flag(config, "qkv_bias", default=True)), read_norm(config)
    dense = MLP(size(config, "intermediate_size"))
    blocks = [Block(attention, experts if is_sparse else dense, norm) for is_sparse in sparse_layers(config)]
    return read_decoder(config, _names(num_experts), blocks)


def _names(num_experts: int) -> WeightNames:
    shared = "mlp.shared_expert"
    shared_gate = renamed("mlp.shared_gate", "mlp.shared_expert_gate")
    return WeightNames(
        huggingface=(
            QKV,
            GATE_UP,
            renamed("mlp.router", "mlp.gate"),
            *expert_names(num_experts, "mlp.experts", ("gate_proj", "up_proj"), "down_proj"),
            renamed(f"{shared}.gate_up_proj", f"{shared}.gate_proj", f"{shared}.up_proj"),
            shared_gate,
        ),
        mlc=(*mlc_qwen(num_experts), shared_gate),
    )
