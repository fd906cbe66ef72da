"""How GGUF names and stores the weights of a model, as far as Hugging Face's checkpoints differ."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Config = Mapping[str, Any]

OUTSIDE_LAYERS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
}
HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
MLP = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
ROUTER = "block_sparse_moe.gate"
EXPERTS = {
    ROUTER: "ffn_gate_inp",
    "block_sparse_moe.experts.w1": "ffn_gate_exps",
    "block_sparse_moe.experts.w2": "ffn_down_exps",
    "block_sparse_moe.experts.w3": "ffn_up_exps",
}
MLP_NORM = {"post_attention_layernorm": "ffn_norm"}
SANDWICH_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
EXPERT = re.compile(r"(?<=\.experts)\.(\d+)(?=\.)")


@dataclass(frozen=True)
class GgufFamily:
    """How a family is called and stored in GGUF. `in_layers` has the names of the weights of a layer.

    `turns_neighbours` says that neighbouring rows of queries and keys are rotated as a pair, and
    `norms_less_one` that checkpoints store norms less one, as GGUF does not.
    """

    architecture: str
    in_layers: Mapping[str, str]
    turns_neighbours: bool = False
    norms_less_one: bool = False

    def name(self, name: str) -> str:
        """The GGUF name of a weight; experts of a layer share one. Raises ValueError for an unknown one."""
        if name in OUTSIDE_LAYERS:
            return OUTSIDE_LAYERS[name]
        found = IN_LAYER.fullmatch(name)
        part = EXPERT.sub("", found[2]) if found else ""
        if found is None or part not in self.in_layers:
            raise ValueError(f"{self.architecture} models of GGUF have no weight {name!r}")
        return f"blk.{found[1]}.{self.in_layers[part]}.weight"


FAMILIES = {
    "llama": GgufFamily("llama", ATTENTION | MLP | MLP_NORM, turns_neighbours=True),
    "mixtral": GgufFamily("llama", ATTENTION | EXPERTS | MLP_NORM, turns_neighbours=True),
    "qwen3": GgufFamily("qwen3", ATTENTION | HEAD_NORMS | MLP | MLP_NORM),
    "gemma3_text": GgufFamily("gemma3", ATTENTION | HEAD_NORMS | MLP | SANDWICH_NORMS, norms_less_one=True),
}


def family_of(model_type: str) -> GgufFamily:
    """The family of a checkpoint. Raises ValueError for one that isn't converted."""
    if model_type not in FAMILIES:
        raise ValueError(f"{model_type} models are not converted; {', '.join(FAMILIES)} are")
    return FAMILIES[model_type]


def expert_number(name: str) -> int:
    """The number of the expert whose weight this is; 0 for a weight of no expert."""
    found = EXPERT.search(name)
    return int(found[1]) if found else 0


def interleaved(rows: Array, heads: int) -> Array:
    """Rows of a query or key projection, in the order that the rotation of llama.cpp expects.

    llama.cpp rotates neighbouring rows as a pair. A checkpoint stores the first rows of all pairs of a head
    before all of the second ones.
    """
    halves = rows.reshape(heads, 2, -1, rows.shape[1])
    turned: Array = halves.swapaxes(1, 2).reshape(rows.shape)
    return turned


def widened(bits: Array) -> Array:
    """The float32 values of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def with_old_rotation(config: Config) -> Config:
    """The configuration with the keys by which transformers set the rotation before its release 5."""
    rotation = config.get("rope_parameters")
    if not rotation:
        return config
    scaling = None if rotation["rope_type"] == "default" else rotation
    return {**config, "rope_theta": rotation["rope_theta"], "rope_scaling": scaling}


def rope_factors(config: Config) -> Array | None:
    """The numbers by which Llama 3.1 divides each frequency; None for a model without rope scaling.

    Long waves are stretched by the whole factor, short ones not at all, and those between by a blend of both.
    Raises ValueError for another kind of scaling.
    """
    scaling = config.get("rope_scaling")
    if not scaling:
        return None
    if scaling["rope_type"] != "llama3":
        raise ValueError(f"rope scaling {scaling['rope_type']!r} is not converted; llama3 is")
    exponents = np.arange(0, config["head_dim"], 2) / config["head_dim"]
    turns = scaling["original_max_position_embeddings"] / (2 * math.pi * config["rope_theta"] ** exponents)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0, 1)
    factors: Array = (1 / ((1 - share) / scaling["factor"] + share)).astype(np.float32)
    return factors
