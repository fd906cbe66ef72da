"""Rotary positions as TVM's kernels for GPUs take them.

TVM has kernels for two more scalings, which are not used: its parser does not accept the one for longrope,
and the one for yarn gives the two dimensions of a pair different frequencies.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tvm import relax
from tvm.relax.frontend.nn.llm.kv_cache import RopeMode

from mlc_serve.errors import CheckpointError
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.rope import Rope
from mlc_serve.models.rope_scaling import LinearScaling, Llama3Scaling, LongRopeScaling


def rope_arguments(shape: AttentionShape) -> dict[str, Any]:
    """The arguments of TIRPagedKVCache that describe how all layers rotate. Raises CheckpointError for what
    TVM can't do.
    """
    ropes = {layer.rope for layer in shape.layers}
    rope = ropes.pop()
    if ropes:
        raise CheckpointError("layers with different rotary positions are available only on the CPU")
    if rope is None:
        return {"rope_mode": RopeMode.NONE, **describe(Rope(theta=1.0), shape.head_dim)}
    return {"rope_mode": RopeMode.NORMAL, **describe(rope, shape.head_dim)}


def describe(rope: Rope, head_dim: int) -> dict[str, Any]:
    """The arguments for one rotation."""
    if rope.query_scaling is not None:
        raise CheckpointError("llama_4_scaling_beta is available only on the CPU")
    described = {
        "rope_theta": rope.theta,
        "rope_scale": 1.0,
        "rope_scaling": {},
        "rope_ext_factors": relax.prim_value(0),  # none
        "rotary_dim": rope.dimensions(head_dim),
    }
    match rope.scaling:
        case None:
            return described
        case LinearScaling(factor=factor):
            return described | {"rope_scale": 1.0 / factor}
        case Llama3Scaling() as scaling:
            return described | {"rope_scaling": {"rope_type": "llama3", **asdict(scaling)}}
    kind = "longrope" if isinstance(rope.scaling, LongRopeScaling) else "yarn"
    raise CheckpointError(f"rope_scaling: the type {kind!r} is available only on the CPU")
