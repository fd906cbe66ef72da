"""Reads what configurations of mixtures of experts have in common, and names their weights."""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, size
from mlc_serve.models.decoder_config import read_num_layers
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.weight_changes import Stacked
from mlc_serve.models.weight_names import Part, Renaming, renamed


def check_silu(config: Config) -> None:
    """Raise CheckpointError if experts have another activation than SiLU."""
    if read_activation(config) != "silu":
        raise CheckpointError(
            f"hidden_act {config['hidden_act']!r} is not supported for experts, only 'silu'"
        )


def read_active(config: Config, num_experts: int, default: int | None) -> int:
    """To how many of the experts each token is sent."""
    return size(config, "num_experts_per_tok", default, up_to=num_experts)


def sparse_layers(config: Config) -> list[bool]:
    """Which layers of a Qwen model have experts: each `decoder_sparse_step`-th, except `mlp_only_layers`."""
    dense, step = config.get("mlp_only_layers") or [], size(config, "decoder_sparse_step", 1)
    if not isinstance(dense, list):
        raise CheckpointError(f"mlp_only_layers must be a list of layers, not {reprlib.repr(dense)}")
    return [layer not in dense and (layer + 1) % step == 0 for layer in range(read_num_layers(config))]


def expert_names(num_experts: int, stored: str, gate_up: tuple[str, str], down: str) -> tuple[Renaming, ...]:
    """Each expert's matrices are tensors of their own, `stored`.number.name."""
    experts = range(num_experts)
    return (
        Renaming(
            "mlp.experts.gate_up_proj",
            tuple(Part(f"{stored}.{expert}.{name}") for expert in experts for name in gate_up),
        ),
        Renaming("mlp.experts.down_proj", tuple(Part(f"{stored}.{expert}.{down}") for expert in experts)),
    )


def mlc_expert_names(num_experts: int, gate_up: str, down: str) -> tuple[Renaming, ...]:
    """MLC has the matrices of all experts in one tensor."""
    stacked = Stacked(num_experts)
    return (
        renamed("mlp.experts.gate_up_proj", gate_up, change=stacked),
        renamed("mlp.experts.down_proj", down, change=stacked),
    )
