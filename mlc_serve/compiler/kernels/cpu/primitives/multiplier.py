"""How a register of words is multiplied: in float32, or in bfloat16 where the processor adds up pairs of
products at once.

A word is one float32, or two bfloat16 of which the first is in the lower half. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast


class Multiplier(Protocol):
    """What a kernel needs from either way of multiplying."""

    per_word: int  # values in a word
    word: str  # a word's type
    definitions: str  # LLVM IR that the kernel imports

    def pack(self, values: Sequence[Any], lanes: int) -> Any:
        """`per_word` float32 vectors as one vector of words."""

    def multiply_add(self, total: Any, words: Any, word: Any) -> Any:
        """Total + words * word, added up within each word, for LANES words and one word for all of them."""


def multiplier_for(dtype: str, unit: FloatUnit) -> Multiplier:
    """Bfloat16 for keys and values of float16, if the CPU is faster at it; float32 otherwise."""
    return Bfloat16Multiplier() if dtype == "float16" and unit.has_pairs else FloatMultiplier()


class FloatMultiplier:
    """Implements Multiplier."""

    per_word, word, definitions = 1, "float32", ""

    def pack(self, values: Sequence[Any], lanes: int) -> Any:  # noqa: ARG002  Multiplier has it
        return values[0]

    def multiply_add(self, total: Any, words: Any, word: Any) -> Any:
        return total + words * broadcast(word)


class Bfloat16Multiplier:
    """Implements Multiplier with AVX512-BF16. In TVM bfloat16 is a type only for storage, so the product is
    written in LLVM IR.
    """

    per_word, word = 2, "uint32"
    definitions = """
        declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
        define <16 x float> @multiply_add_bfloat16(<16 x float> %total, <16 x i32> %a, <16 x i32> %b) {
          %x = bitcast <16 x i32> %a to <32 x bfloat>
          %y = bitcast <16 x i32> %b to <32 x bfloat>
          %sum = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
              <16 x float> %total, <32 x bfloat> %x, <32 x bfloat> %y)
          ret <16 x float> %sum
        }
    """

    def pack(self, values: Sequence[Any], lanes: int) -> Any:
        low, high = (_rounded(value, lanes) for value in values)
        upper_half = tirx.const(0xFFFF0000, "uint32")
        return tirx.bitwise_or(tirx.shift_right(low, tirx.const(16, "uint32")), high & upper_half)

    def multiply_add(self, total: Any, words: Any, word: Any) -> Any:
        return T.call_pure_extern("float32x16", "multiply_add_bfloat16", total, words, broadcast(word))


def _rounded(value: Any, lanes: int) -> Any:
    """The bits of float32 values; the upper half of each is the nearest bfloat16."""
    dtype = f"uint32x{lanes}" if lanes > 1 else "uint32"
    return tirx.reinterpret(dtype, value) + tirx.const(0x8000, "uint32")
