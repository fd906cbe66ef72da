"""Sums of products of bytes: the instructions that integer products are made of, for each kind of CPU.

A word is four signed activations, and a vector of weights has four integers for each column. Every kind of
CPU adds the four products of a column to the column's sum, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast


class Dot(Protocol):
    """One way to add up the products of a group.

    A vector has the sums of `columns` columns, 32 bits each. Registers have room for the sums of `tiles`
    tiles of 16 columns by `rows` rows (1, 2 or 4). Products see weights that are `offset` too large; sums
    start from `start`, an int32 scalar, to cancel that. `is_one_instruction` says whether `add` is one.
    """

    is_one_instruction: ClassVar[bool]

    @property
    def columns(self) -> int: ...
    @property
    def tiles(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def offset(self) -> int: ...

    def begin(self, start: Any) -> Any:
        """The sums before the first word of a group."""

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        """The sums after one more word (int32) and the weights that belong to it (uint8)."""

    def end(self, sums: Any, start: Any) -> Any:
        """The sums of a whole group, int32."""


@dataclass(frozen=True)
class MixedDot:
    """Implements Dot with an instruction for unsigned times signed bytes."""

    is_one_instruction: ClassVar[bool] = True
    instruction: str
    columns: int
    tiles: int
    rows: int
    offset: int

    def begin(self, start: Any) -> Any:
        return broadcast(start, self.columns)

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        # The weights are the operand in a register, so that AVX-512 broadcasts the word from memory.
        return tirx.call_llvm_pure_intrin(
            f"int32x{self.columns}", self.instruction, sums, weights, _bytes(word, self.columns)
        )

    def end(self, sums: Any, start: Any) -> Any:  # noqa: ARG002  Dot has it
        return sums


@dataclass(frozen=True)
class SignedDot:
    """Implements Dot with Arm's instruction for signed bytes. Four-bit weights fit as they are stored. With
    `is_flipped` eight-bit weights are made signed, which lowers their offset by 128.
    """

    is_one_instruction: ClassVar[bool] = True
    is_flipped: bool
    offset: int
    columns: int = 4
    tiles: int = 1
    rows: int = 4

    def begin(self, start: Any) -> Any:
        return broadcast(start, self.columns)

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        return tirx.call_llvm_pure_intrin(
            f"int32x{self.columns}",
            "llvm.aarch64.neon.sdot.v4i32.v16i8",
            sums,
            _flipped(weights, self.columns) if self.is_flipped else weights,
            _bytes(word, self.columns),
        )

    def end(self, sums: Any, start: Any) -> Any:  # noqa: ARG002  Dot has it
        return sums


@dataclass(frozen=True)
class ShortDot:
    """Implements Dot for four-bit weights on x86 without VNNI: sums of 16 bits, each for one half of a
    column's products. In a group of 32 that is 16 products of at most 15 * 127, and in a group of 40, whose
    integers have 3 bits, 20 of at most 7 * 127: both fit.
    """

    is_one_instruction: ClassVar[bool] = False
    columns: int
    tiles: int
    rows: int
    offset: int

    def begin(self, start: Any) -> Any:  # noqa: ARG002  Dot has it
        return broadcast(tirx.const(0, "int32"), self.columns)

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        pairs = _sum_of_bytes(weights, _bytes(word, self.columns), self.columns)
        return tirx.reinterpret(f"int32x{self.columns}", self._pairs(sums) + pairs)

    def end(self, sums: Any, start: Any) -> Any:
        total = _sum_of_neighbours(self._pairs(sums), self.columns)
        return total + broadcast(start, self.columns)

    def _pairs(self, sums: Any) -> Any:
        return tirx.reinterpret(f"int16x{2 * self.columns}", sums)


@dataclass(frozen=True)
class MagnitudeDot:
    """Implements Dot for eight-bit weights on x86 without VNNI, where two products of bytes are added up in
    16 bits. There is room for magnitudes up to 127, so the sign of the weight is moved to the activation.
    """

    is_one_instruction: ClassVar[bool] = False
    tiles: int
    rows: int
    offset: int  # 128 less than the weights'
    columns: int = 8

    def begin(self, start: Any) -> Any:
        return broadcast(start, self.columns)

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        bytes_ = f"int8x{4 * self.columns}"
        none = broadcast(tirx.const(0, "int8"), 4 * self.columns)
        signed = tirx.reinterpret(bytes_, _flipped(weights, self.columns))
        moved = tirx.call_llvm_pure_intrin(
            bytes_, "llvm.x86.avx2.psign.b", _bytes(word, self.columns), signed
        )
        pairs = _sum_of_bytes(tirx.max(signed, none - signed), moved, self.columns)
        return sums + _sum_of_neighbours(pairs, self.columns)

    def end(self, sums: Any, start: Any) -> Any:  # noqa: ARG002  Dot has it
        return sums


@dataclass(frozen=True)
class PortableDot:
    """Implements Dot with instructions that every CPU has."""

    is_one_instruction: ClassVar[bool] = False
    columns: int
    tiles: int
    rows: int
    offset: int

    def begin(self, start: Any) -> Any:
        return broadcast(start, self.columns)

    def add(self, sums: Any, weights: Any, word: Any) -> Any:
        quads = tirx.reinterpret(f"int32x{self.columns}", weights)
        for bit in range(0, 32, 8):
            weight = tirx.bitwise_and(tirx.shift_right(quads, self._all(bit)), self._all(255))
            raised = tirx.shift_left(word, tirx.const(24 - bit, "int32"))
            activation = tirx.shift_right(raised, tirx.const(24, "int32"))
            sums = sums + weight * broadcast(activation, self.columns)
        return sums

    def end(self, sums: Any, start: Any) -> Any:  # noqa: ARG002  Dot has it
        return sums

    def _all(self, value: int) -> Any:
        return broadcast(tirx.const(value, "int32"), self.columns)


def _bytes(word: Any, columns: int) -> Any:
    """The word as bytes, once for each column."""
    return tirx.reinterpret(f"int8x{4 * columns}", broadcast(word, columns))


def _flipped(weights: Any, columns: int) -> Any:
    """Unsigned bytes minus 128, as signed bytes."""
    return tirx.bitwise_xor(weights, broadcast(tirx.const(128, "uint8"), 4 * columns))


def _sum_of_bytes(a: Any, b: Any, columns: int) -> Any:
    """Products of unsigned and signed bytes, of which every two neighbours are added up in int16."""
    instruction = {8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}[columns]
    return tirx.call_llvm_pure_intrin(f"int16x{2 * columns}", instruction, a, b)


def _sum_of_neighbours(pairs: Any, columns: int) -> Any:
    """The sums of every two neighbours of int16, in int32."""
    instruction = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[columns]
    ones = broadcast(tirx.const(1, "int16"), 2 * columns)
    return tirx.call_llvm_pure_intrin(f"int32x{columns}", instruction, pairs, ones)
