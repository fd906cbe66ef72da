"""Exported weights in 8 bits, in the form of compressed-tensors: each matrix is integers, to which 128 is
added, four in a word, and a scale for each 64 weights of a row. All other weights are in float16.

Integers and scales are those with which mlc_serve computes on the CPU, where it rounds nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from demo_training.export import write_tensors
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.scheme import GroupFormat

FORM = GroupFormat(bits=8, group_size=64, offset=128, scale_dtype="float16")
CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear", "Embedding"],
            "weights": {
                "num_bits": FORM.bits,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": FORM.group_size,
            },
        }
    },
}


def export_packed(
    weights: Mapping[str, torch.Tensor], config: dict[str, Any], num_steps: int, directory: Path
) -> None:
    """Write weights by name, which were trained for `num_steps`, and config.json. Rows are whole words."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            tensors |= _packed(name, weight)
        else:
            tensors[name] = weight.half()
    write_tensors(tensors, config | {"quantization_config": CONFIG}, num_steps, directory)


def read_packed(module: nn.Module, directory: Path) -> None:
    """Give a module its weights as they were written, which means rounded."""
    tensors = open_checkpoint(directory).tensors
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(tensors.tensor(name)))


def _packed(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    num_rows, depth = weight.shape
    quantized = quantize(weight.numpy(), FORM)
    words = np.ascontiguousarray(quantized.stored[:, :depth]).view(np.int32)
    return {
        f"{name}_packed": torch.from_numpy(words),
        f"{name}_scale": torch.from_numpy(quantized.scale),
        f"{name}_shape": torch.tensor([num_rows, depth]),
    }
