"""Weights of one byte, in the shape that the model gives them, with a scale for each block, row or tensor.

    X.weight         (N, K)   8-bit floating-point numbers, or int8
    X.weight_scale   a scale for each block of rows and columns, `(N / rows, K / columns)`; or `(N, 1)`,
                     `(N,)`, `(1,)` or `()`

A weight is its number times its scale. Scales for activations are not used: activations are not rounded to
what the checkpoint was made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.packing import Packing, Parts, Shape
from mlc_serve.checkpoint.packed.settings import Settings
from mlc_serve.quantization.packed import PackedWeight

Block = tuple[int, int]
_SCALES = ("float32", "bfloat16", "float16", "float8_e8m0fnu")
_FLOATS8 = ("float8_e4m3fn", "float8_e5m2")
_INT8_ZERO = 128  # of an int8, if it is made unsigned
# Which modules are packed is told by the tensors.
_WITHOUT_EFFECT = (
    *("quant_method", "dequantize"),
    *("modules_to_not_convert", "ignored_layers", "modules_to_convert"),
)
_READ = ("activation_scheme", "fmt", "scale_fmt", "weight_block_size", "expert_dtype")


@dataclass(frozen=True)
class Scaled:
    """Implements Packing. `main` is the end of the name of scales."""

    block: Block | None
    main: str

    weight: ClassVar[str] = ".weight"
    others: ClassVar[tuple[str, ...]] = (".weight", ".input_scale", ".output_scale", ".weight_shape")

    def shape(self, parts: Parts) -> Shape:
        """See Packing."""
        num_rows, depth = shape = parts.shape(self.weight, 2)
        possible = [(), (1,), (num_rows,), (num_rows, 1)]
        if self.block is not None:
            rows, columns = self.block
            possible = [(-(-num_rows // rows), -(-depth // columns))]
        parts.check_shape(self.main, *possible)
        return shape

    def floats(self, parts: Parts) -> NDArray[Any]:
        """See Packing."""
        self.shape(parts)
        weight = parts.tensor(self.weight, *_FLOATS8, "int8").astype(np.float32)
        scale = parts.tensor(self.main, *_SCALES).astype(np.float32)
        if self.block is None:
            weight *= scale.reshape(-1, 1)
            return weight
        rows, columns = self.block
        depth = weight.shape[1]
        of_columns = scale.repeat(min(columns, depth), axis=1)[:, :depth]
        for index, factors in enumerate(of_columns):
            weight[index * rows : (index + 1) * rows] *= factors
        return weight

    def packed(self, parts: Parts) -> PackedWeight | None:
        """See Packing: int8 with a scale for each row, or for all."""
        num_rows, depth = self.shape(parts)
        weight = parts.tensor(self.weight, *_FLOATS8, "int8")
        if weight.dtype != np.int8 or self.block is not None:
            return None
        scale = np.broadcast_to(parts.tensor(self.main, *_SCALES).reshape(-1, 1), (num_rows, 1))
        zero = np.full((num_rows, 1), _INT8_ZERO, np.int16)
        return PackedWeight(weight.view(np.uint8) ^ np.uint8(_INT8_ZERO), zero, scale, depth)


def fp8(settings: Settings) -> list[Packing]:
    """How the weights of a quantization_config of FP8 are read. Raises CheckpointError."""
    settings.check_keys(_READ, _WITHOUT_EFFECT)
    settings.one_of("activation_scheme", ("dynamic", "static", None))
    settings.one_of("fmt", ("e4m3", "e5m2", None))
    settings.one_of("scale_fmt", ("float", "ue8m0", None))
    settings.one_of("expert_dtype", ("fp8", None))
    block = settings.block_size("weight_block_size")
    return [Scaled(block, end) for end in (".weight_scale_inv", ".weight_scale")]
