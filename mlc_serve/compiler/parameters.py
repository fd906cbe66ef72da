"""The parameters of an architecture, before any scheme or kernel has a say in their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_serve.compiler.gpu_layers import GPULayers
from mlc_serve.compiler.target import target_for
from mlc_serve.models.llama import LlamaForCausalLM
from mlc_serve.models.table import read_config
from mlc_serve.quantization.scheme import find_scheme


def parameter_shapes(model_type: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, fused as MLC fuses them, matrices as `(N, K)`. Raises CheckpointError for an
    architecture or a configuration that is not supported.
    """
    layers = GPULayers(find_scheme("q0f32"), target_for("cpu"))  # row-major; nothing is compiled for a target
    model = LlamaForCausalLM(read_config(model_type, config), layers)
    return {name: tuple(map(int, param.shape)) for name, param in model.named_parameters()}
