"""Writes checkpoints whose products are packed as other programs pack them, and says what they stand for.

All of it follows the definitions of the formats, one column after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.checkpoints import Shape, write_checkpoint

Tensors = dict[str, NDArray[Any]]

GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": False}
AWQ: dict[str, Any] = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": 64,
    "zero_point": True,
    "version": "gemm",
}
FP8: dict[str, Any] = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [32, 48],
}
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def compressed(form: str, **weights: Any) -> dict[str, Any]:
    """The quantization_config of compressed-tensors for one group of weights."""
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "input_activations": None,
                "weights": {"dynamic": False, "symmetric": True, "observer": "minmax", **weights},
            }
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


@dataclass(frozen=True)
class Grouped:
    """Unsigned integers `(N, K)`, zero points and scales `(N, G)`, and the group of each column."""

    integers: NDArray[np.int64]
    zeros: NDArray[np.int64]
    scales: NDArray[Any]
    group_of: NDArray[np.int64]

    def weight(self) -> NDArray[np.float32]:
        """What they stand for."""
        scales = self.scales.astype(np.float64)[:, self.group_of]
        return ((self.integers - self.zeros[:, self.group_of]) * scales).astype(np.float32)


def grouped(
    weight: NDArray[Any],
    bits: int,
    size: int,
    *,
    is_symmetric: bool,
    group_of: NDArray[Any] | None = None,
    dtype: Any = np.float16,
) -> Grouped:
    """A weight rounded to integers. The extreme ones occur."""
    num_rows, depth = weight.shape
    group_of = np.arange(depth) // size if group_of is None else group_of
    num_groups, most = -(-depth // size), 2**bits - 1
    zeros = np.full((num_rows, num_groups), 2 ** (bits - 1))
    scales = np.zeros((num_rows, num_groups), dtype)
    for group in range(num_groups):
        part = weight[:, group_of == group]
        if is_symmetric:
            scales[:, group] = 2 * np.abs(part).max(axis=1) / most
        else:
            scales[:, group] = (part.max(axis=1) - part.min(axis=1)) / most
            zeros[:, group] = np.rint(-part.min(axis=1) / scales[:, group].astype(np.float32)).clip(1, most)
    integers = np.rint(weight / scales.astype(np.float32)[:, group_of]) + zeros[:, group_of]
    integers[0, 0], integers[-1, -1] = 0, most
    return Grouped(integers.clip(0, most).astype(np.int64), zeros, scales, group_of)


def words(integers: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """The integers of each row in words of 32 bits, the first in the lowest bits. Missing ones are 0."""
    per_word = 32 // bits
    packed = np.zeros((len(integers), -(-integers.shape[1] // per_word)), np.uint32)
    for column in range(integers.shape[1]):
        shift = np.uint32(bits * (column % per_word))
        packed[:, column // per_word] |= integers[:, column].astype(np.uint32) << shift
    return packed.view(np.int32)


def _gptq(name: str, weight: NDArray[Any], config: Mapping[str, Any]) -> tuple[Tensors, NDArray[Any]]:
    bits, depth = config["bits"], weight.shape[1]
    size = depth if config["group_size"] == -1 else config["group_size"]
    group_of = np.arange(depth) // size
    if config["desc_act"]:
        group_of = np.random.default_rng(depth).permutation(group_of)
    parts = grouped(weight, bits, size, is_symmetric=config["sym"], group_of=group_of)
    less = 1 if config.get("checkpoint_format", "gptq") == "gptq" else 0
    tensors = {
        f"{name}.qweight": np.ascontiguousarray(words(parts.integers, bits).T),
        f"{name}.qzeros": words(parts.zeros.T - less, bits),
        f"{name}.scales": np.ascontiguousarray(parts.scales.T),
        f"{name}.g_idx": group_of.astype(np.int32),
    }
    return tensors, parts.weight()


def _awq(name: str, weight: NDArray[Any], config: Mapping[str, Any]) -> tuple[Tensors, NDArray[Any]]:
    parts = grouped(weight, 4, config["group_size"], is_symmetric=False)

    def ordered(columns: NDArray[Any]) -> NDArray[np.int32]:
        return words(columns.reshape(len(columns), -1, 8)[:, :, _AWQ_ORDER].reshape(len(columns), -1), 4)

    tensors: Tensors = {
        f"{name}.qweight": ordered(parts.integers.T),
        f"{name}.qzeros": ordered(parts.zeros.T),
        f"{name}.scales": np.ascontiguousarray(parts.scales.T),
    }
    return tensors, parts.weight()


def _fp8(name: str, weight: NDArray[Any], config: Mapping[str, Any]) -> tuple[Tensors, NDArray[Any]]:
    rows, columns = config["weight_block_size"] or weight.shape
    scales = np.zeros((-(-len(weight) // rows), -(-weight.shape[1] // columns)), np.float32)
    small, result = np.zeros(weight.shape, ml_dtypes.float8_e4m3fn), np.zeros(weight.shape, np.float32)
    for i, j in np.ndindex(*scales.shape):
        block = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        scales[i, j] = np.abs(weight[block]).max() / 448
        small[block] = (weight[block] / scales[i, j]).astype(small.dtype)
        result[block] = small[block].astype(np.float32) * scales[i, j]
    if config["weight_block_size"] is None:
        return {f"{name}.weight": small, f"{name}.weight_scale": scales.reshape(())}, result
    return {f"{name}.weight": small, f"{name}.weight_scale_inv": scales}, result


def _compressed(name: str, weight: NDArray[Any], config: Mapping[str, Any]) -> tuple[Tensors, NDArray[Any]]:
    settings = config["config_groups"]["group_0"]["weights"]
    bits, depth = settings["num_bits"], weight.shape[1]
    size, is_symmetric = settings.get("group_size") or depth, settings["symmetric"]
    if config["format"] == "float-quantized":
        return _fp8_rows(name, weight)
    parts = grouped(weight, bits, size, is_symmetric=is_symmetric, dtype=ml_dtypes.bfloat16)
    tensors: Tensors = {f"{name}.weight_scale": parts.scales}
    if config["format"] == "int-quantized":
        return tensors | {f"{name}.weight": (parts.integers - 128).astype(np.int8)}, parts.weight()
    tensors[f"{name}.weight_packed"] = words(parts.integers, bits)
    tensors[f"{name}.weight_shape"] = np.array(weight.shape)
    if not is_symmetric:
        tensors[f"{name}.weight_zero_point"] = np.ascontiguousarray(words(parts.zeros.T, bits).T)
    return tensors, parts.weight()


def _fp8_rows(name: str, weight: NDArray[Any]) -> tuple[Tensors, NDArray[Any]]:
    scales = (np.abs(weight).max(axis=1, keepdims=True) / 448).astype(ml_dtypes.bfloat16)
    small = (weight / scales.astype(np.float32)).astype(ml_dtypes.float8_e4m3fn)
    tensors: Tensors = {f"{name}.weight": small, f"{name}.weight_scale": scales}
    return tensors, small.astype(np.float32) * scales.astype(np.float32)


_PACK: dict[str, Callable[[str, NDArray[Any], Mapping[str, Any]], tuple[Tensors, NDArray[Any]]]] = {
    "gptq": _gptq,
    "awq": _awq,
    "fp8": _fp8,
    "compressed-tensors": _compressed,
}


def write_packed_checkpoint(path: Path, config: Mapping[str, Any], shape: Shape, *, seed: int = 0) -> Tensors:
    """Write a checkpoint whose products are packed as `config`, its quantization_config, says. Return all
    tensors of the same checkpoint without packing: products as they are defined, in float32.
    """
    write_checkpoint(path, shape, seed=seed)
    tensors: Tensors = {}
    restored: Tensors = {}
    for name, tensor in load_file(path / "model.safetensors").items():
        restored[name] = tensor
        if name.endswith("_proj.weight"):
            packed, restored[name] = _PACK[config["quant_method"]](
                name.removesuffix(".weight"), tensor, config
            )
            tensors |= packed
        else:
            tensors[name] = tensor
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    declare(path, config)
    return restored


def declare(path: Path, config: Any) -> None:
    """Put a quantization_config into a checkpoint's configuration."""
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": config}))
