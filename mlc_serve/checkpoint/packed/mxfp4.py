"""MXFP4 (Open Compute Project, 2023), as gpt_oss has it for the weights of all experts together.

    X_blocks   (E, N, K / 32, 16) uint8   two numbers of 4 bits a byte, the lower bits first
    X_scales   (E, N, K / 32) uint8       exponents of two, plus 127

A number is a sign, two bits of exponent and one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4 or 6. In floating point,
X is `(E, K, N)`, as transformers has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.packing import Packing, Parts, Shape
from mlc_serve.checkpoint.packed.settings import Settings
from mlc_serve.quantization.packed import PackedWeight

_BLOCK, _BYTES = 32, 16
_BIAS = 127
_NOT_A_NUMBER = 255  # as an exponent
_ZERO = 12
# Twice the numbers are integers, here plus _ZERO.
_DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
_INTEGERS = (_DOUBLED + _ZERO).astype(np.uint8)


@dataclass(frozen=True)
class MXFP4:
    """Implements Packing."""

    main: ClassVar[str] = "_blocks"
    weight: ClassVar[str] = ""
    others: ClassVar[tuple[str, ...]] = ("_scales",)

    def shape(self, parts: Parts) -> Shape:
        """See Packing."""
        num_experts, num_rows, num_blocks, _ = parts.shape("_blocks", 4)
        parts.check_shape("_blocks", (num_experts, num_rows, num_blocks, _BYTES))
        parts.check_shape("_scales", (num_experts, num_rows, num_blocks))
        return num_experts, num_blocks * _BLOCK, num_rows

    def packed(self, parts: Parts) -> PackedWeight:
        """See Packing. The axes are those of the tensor, `(E, K, N)`."""
        num_experts, _, num_rows = self.shape(parts)
        return self._rows(parts).each(
            lambda array: array.reshape(num_experts, num_rows, -1).transpose(0, 2, 1)
        )

    def floats(self, parts: Parts) -> NDArray[Any]:
        """See Packing."""
        num_experts, depth, num_rows = self.shape(parts)
        return self._rows(parts).floats().reshape(num_experts, num_rows, depth).transpose(0, 2, 1)

    def _rows(self, parts: Parts) -> PackedWeight:
        """The rows of the experts, `(E * N, K)`."""
        num_experts, depth, num_rows = self.shape(parts)
        blocks, exponents = (parts.tensor(end, "uint8") for end in ("_blocks", "_scales"))
        integers = _INTEGERS[np.stack([blocks & 15, blocks >> 4], axis=4)]
        exponents = exponents.reshape(num_experts * num_rows, -1)
        scale = np.ldexp(np.float32(1), exponents.astype(np.int32) - _BIAS - 1)
        scale[exponents == _NOT_A_NUMBER] = np.nan
        zero = np.full(scale.shape, _ZERO, np.int16)
        return PackedWeight(integers.reshape(len(scale), depth), zero, scale, _BLOCK)


def mxfp4(settings: Settings) -> list[Packing]:
    """How the weights of a quantization_config of MXFP4 are read. Raises CheckpointError."""
    settings.check_keys(("quant_method", "modules_to_not_convert", "dequantize"))
    return [MXFP4()]
