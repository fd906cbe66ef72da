"""How prefill multiplies: in float32, or in bfloat16 where the processor sums pairs of products at once.

Operands are words: one float32, or two bfloat16 of which the first is in the lower half. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import LANES

if TYPE_CHECKING:  # which of these is faster is known there
    from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit


class Products(Protocol):
    """What a kernel needs of either."""

    pair: int  # values in a word
    word: str  # its type
    definitions: str  # LLVM IR that the kernel imports

    def pack(self, values: Sequence[Any], lanes: int) -> Any:
        """`pair` float32 vectors as one vector of words."""

    def multiply_add(self, total: Any, words: Any, word: Any) -> Any:
        """Total + words * word, summed over each pair, for LANES words and one that meets them all."""


def products_for(dtype: str, unit: FloatUnit) -> Products:
    """Bfloat16 for keys and values of float16, if the CPU is faster at it; float32 otherwise."""
    return Bfloat16Products() if dtype == "float16" and unit.has_pairs else FloatProducts()


class FloatProducts:
    """Implements Products."""

    pair, word, definitions = 1, "float32", ""

    def pack(self, values: Sequence[Any], lanes: int) -> Any:  # noqa: ARG002  Products has it
        return values[0]

    def multiply_add(self, total: Any, words: Any, word: Any) -> Any:
        return total + words * T.broadcast(word, LANES)


class Bfloat16Products:
    """Implements Products with AVX512-BF16. TVM takes bfloat16 for a type to store, so that LLVM is told in
    its own words.
    """

    pair, word = 2, "uint32"
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
        broadcast = T.broadcast(word, LANES)
        return T.call_pure_extern("float32x16", "multiply_add_bfloat16", total, words, broadcast)


def _rounded(value: Any, lanes: int) -> Any:
    """The bits of float32 whose upper half is the nearest bfloat16."""
    dtype = f"uint32x{lanes}" if lanes > 1 else "uint32"
    return tirx.reinterpret(dtype, value) + tirx.const(0x8000, "uint32")
