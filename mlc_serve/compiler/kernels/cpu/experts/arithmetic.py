"""How rows are multiplied with the weights of experts: what rows become before, and a product's steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows, quantize_macro
from mlc_serve.compiler.kernels.cpu.linear.bf16_matmul import (
    pair_step_macro,
    rounding_macro,
    widened_step_macro,
)
from mlc_serve.compiler.kernels.cpu.linear.dequantized_matmul import step_macro as widened_integers_macro
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.float_matmul import step_macro as floats_macro
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import IntegerOperands, fetch_macro
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import step_macro as integers_macro
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import Bfloat16Multiplier, FloatMultiplier
from mlc_serve.quantization.packing import (
    LANES,
    tiles16_integers_shape,
    tiles16_pairs_shape,
    tiles16_scale_shape,
    tiles16_shape,
)
from mlc_serve.quantization.scheme import GroupFormat


class WeightPart(NamedTuple):
    """A parameter that a weight consists of."""

    name: str
    layout: str
    shape: list[int]
    dtype: str


class RowPart(NamedTuple):
    """A buffer that rows consist of."""

    width: int
    dtype: str


class Arithmetic(Protocol):
    """One way to multiply rows with a weight. `rows` is one buffer `(1, s, n)` for each of `rows_of`."""

    @property
    def definitions(self) -> str:
        """LLVM IR that the kernel imports."""

    @property
    def room(self) -> tuple[int, int]:
        """The tiles and the rows whose sums registers have room for."""

    def weight_of(self, num_columns: int, depth: int) -> list[WeightPart]:
        """The parameters of a `(N, K)` weight: one or two."""

    def rows_of(self, depth: int) -> list[RowPart]:
        """What a row becomes; nothing if rows are multiplied as they are."""

    def round_macro(self, depth: int) -> Any:
        """The macro `round_rows(X, rows, num_rows)`, if rows become something else."""

    def operands(self, rows: tuple[Any, ...], weights: tuple[Any, ...]) -> Any:
        """What the steps take."""

    def num_steps(self, depth: int) -> int:
        """How many steps a product has."""

    def step_macro(self, depth: int, tiles: int) -> Any:
        """The step of `all_rows_macro`."""

    def fetch_macro(self, tiles: int) -> Any:
        """The fetch of `all_rows_macro`, if there is one."""


@dataclass(frozen=True)
class FloatArithmetic:
    """Implements Arithmetic for float weights in the layout "tiles16"."""

    dtype: str
    unit: FloatUnit
    definitions: str = ""

    @property
    def room(self) -> tuple[int, int]:
        return self.unit.tiles, self.unit.rows

    def weight_of(self, num_columns: int, depth: int) -> list[WeightPart]:
        return [WeightPart("weight", "tiles16", tiles16_shape(num_columns, depth), self.dtype)]

    def rows_of(self, depth: int) -> list[RowPart]:  # noqa: ARG002  Arithmetic has it
        return []

    def round_macro(self, depth: int) -> None:  # noqa: ARG002  Arithmetic has it
        return None

    def operands(self, rows: tuple[Any, ...], weights: tuple[Any, ...]) -> Any:
        return rows[0], weights[0]

    def num_steps(self, depth: int) -> int:
        return depth

    def step_macro(self, depth: int, tiles: int) -> Any:  # noqa: ARG002  Arithmetic has it
        return floats_macro(tiles)

    def fetch_macro(self, tiles: int) -> None:  # noqa: ARG002  Arithmetic has it
        return None


@dataclass(frozen=True)
class PairArithmetic:
    """Implements Arithmetic for bfloat16 weights in the layout "tiles16-pairs"."""

    unit: FloatUnit

    @property
    def definitions(self) -> str:
        return Bfloat16Multiplier.definitions if self.unit.has_pairs else FloatMultiplier.definitions

    @property
    def room(self) -> tuple[int, int]:
        return self.unit.tiles, self.unit.rows

    def weight_of(self, num_columns: int, depth: int) -> list[WeightPart]:
        return [WeightPart("weight", "tiles16-pairs", tiles16_pairs_shape(num_columns, depth), "bfloat16")]

    def rows_of(self, depth: int) -> list[RowPart]:
        num_words = -(-depth // LANES) * LANES // 2
        return [RowPart(num_words, "uint32")] if self.unit.has_pairs else []

    def round_macro(self, depth: int) -> Any:
        round_rows = rounding_macro(depth)

        @T.macro
        def round_to_words(X, rows, num_rows):
            round_rows(X, rows[0], num_rows)

        return round_to_words

    def operands(self, rows: tuple[Any, ...], weights: tuple[Any, ...]) -> Any:
        return rows[0], weights[0]

    def num_steps(self, depth: int) -> int:
        return -(-depth // 2)

    def step_macro(self, depth: int, tiles: int) -> Any:
        return pair_step_macro(tiles) if self.unit.has_pairs else widened_step_macro(depth, tiles)

    def fetch_macro(self, tiles: int) -> None:  # noqa: ARG002  Arithmetic has it
        return None


@dataclass(frozen=True)
class IntegerArithmetic:
    """Implements Arithmetic for weights in groups, and rows that are rounded to bytes."""

    groups: GroupFormat
    dot: Dot
    definitions: str = ""

    @property
    def room(self) -> tuple[int, int]:
        return self.dot.tiles, self.dot.rows

    def weight_of(self, num_columns: int, depth: int) -> list[WeightPart]:
        return _integers_of(num_columns, depth, self.groups)

    def rows_of(self, depth: int) -> list[RowPart]:
        num_groups = self.groups.count(depth)
        return [
            RowPart(self.groups.padded(depth) // 4, "int32"),
            RowPart(num_groups, "float32"),
            RowPart(num_groups, "int32"),
        ]

    def round_macro(self, depth: int) -> Any:
        round_rows = quantize_macro(depth, self.groups, self.dot.offset)

        @T.macro
        def round_to_bytes(X, rows, num_rows):
            round_rows(X, X, ByteRows(rows[0], rows[1], rows[2]), num_rows)

        return round_to_bytes

    def operands(self, rows: tuple[Any, ...], weights: tuple[Any, ...]) -> Any:
        return IntegerOperands(ByteRows(*rows), *weights)

    def num_steps(self, depth: int) -> int:
        return self.groups.count(depth)

    def step_macro(self, depth: int, tiles: int) -> Any:  # noqa: ARG002  Arithmetic has it
        return integers_macro(self.groups, self.dot, tiles)

    def fetch_macro(self, tiles: int) -> Any:
        return fetch_macro(self.groups, self.dot, tiles)


@dataclass(frozen=True)
class WidenedArithmetic:
    """Implements Arithmetic for weights in groups that are widened to float32."""

    groups: GroupFormat
    unit: FloatUnit
    definitions: str = ""

    @property
    def room(self) -> tuple[int, int]:
        return 1, self.unit.rows

    def weight_of(self, num_columns: int, depth: int) -> list[WeightPart]:
        return _integers_of(num_columns, depth, self.groups)

    def rows_of(self, depth: int) -> list[RowPart]:  # noqa: ARG002  Arithmetic has it
        return []

    def round_macro(self, depth: int) -> None:  # noqa: ARG002  Arithmetic has it
        return None

    def operands(self, rows: tuple[Any, ...], weights: tuple[Any, ...]) -> Any:
        return rows[0], *weights

    def num_steps(self, depth: int) -> int:
        return self.groups.count(depth)

    def step_macro(self, depth: int, tiles: int) -> Any:
        return widened_integers_macro(depth, self.groups, tiles)

    def fetch_macro(self, tiles: int) -> None:  # noqa: ARG002  Arithmetic has it
        return None


def _integers_of(num_columns: int, depth: int, groups: GroupFormat) -> list[WeightPart]:
    integers = tiles16_integers_shape(num_columns, depth, groups)
    scales = tiles16_scale_shape(num_columns, depth, groups)
    return [
        WeightPart("q_weight", f"tiles16-u{groups.bits}", integers, "uint8"),
        WeightPart("q_scale", "tiles16-scale", scales, groups.scale_dtype),
    ]
