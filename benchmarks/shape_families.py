"""What sets the checkpoints of one family apart from those of another, as far as benchmarks write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SILU = {"hidden_act": "silu"}


@dataclass(frozen=True)
class Family:
    """Names and keys in the checkpoints of a family.

    `norms` are those of a layer. `norms_less_one` says that norms are stored less one. One layer in
    `full_every` has no window, if any has one. `keys` are further keys of config.json.
    """

    architecture: str
    has_qkv_bias: bool = False
    has_head_norms: bool = False
    norms: Sequence[str] = ("input_layernorm", "post_attention_layernorm")
    norms_less_one: bool = False
    full_every: int | None = None
    activation: Mapping[str, str] = field(default_factory=lambda: SILU)
    keys: Mapping[str, Any] = field(default_factory=dict)

    def layer_types(self, num_layers: int) -> list[str]:
        """For each layer whether its attention has a window, in the words of config.json."""
        every = self.full_every or 1
        return [
            "sliding_attention" if layer % every else "full_attention" for layer in range(1, num_layers + 1)
        ]


FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM"),
    "mixtral": Family("MixtralForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM", has_qkv_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", has_head_norms=True),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        has_head_norms=True,
        norms=(
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
        norms_less_one=True,
        full_every=6,
        activation={"hidden_activation": "gelu_pytorch_tanh"},
        keys={"query_pre_attn_scalar": 256, "rope_local_base_freq": 10_000.0},
    ),
}
