"""How GGUF names and stores the weights of a Llama model, as far as Hugging Face's checkpoints differ."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
INSIDE_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


def gguf_name(name: str) -> str:
    """The GGUF name of a weight. Raises ValueError for one that a Llama model doesn't have."""
    if name in OUTSIDE_LAYERS:
        return OUTSIDE_LAYERS[name]
    found = IN_LAYER.fullmatch(name)
    if found is None or found[2] not in INSIDE_LAYERS:
        raise ValueError(f"a Llama model has no weight {name!r}")
    return f"blk.{found[1]}.{INSIDE_LAYERS[found[2]]}.weight"


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
