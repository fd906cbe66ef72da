"""What normalization subtracts from a row, and what it multiplies the row by."""

from __future__ import annotations

from typing import Any, Protocol

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.norm import Norm


class NormalRow(Protocol):
    """A row that is to be normalised. It may be padded to whole vectors."""

    def at(self, i: Any) -> Any:
        """Value `i` as float32; zero beyond the row."""

    def distance(self, i: Any, mean: Any) -> Any:
        """How far value `i` is above the mean; zero beyond the row."""


def normal_macro(spec: Norm, padded: int | None = None) -> Any:
    """The macro `find(row, normal)`: for a NormalRow, normal[0] is 1 / sqrt(mean(x^2) + epsilon), where x is
    the row, or for "layer" the row less its mean, which is normal[1]. A row that reads as zero beyond its
    end is read up to the width `padded`.
    """
    extent = padded or spec.width
    step = lanes(extent)
    has_mean = spec.kind == "layer"

    def term(row: Any, i: Any, normal: Any) -> Any:
        return row.distance(i, normal[1]) if has_mean else row.at(i)

    @T.macro
    def add_up(sums, total, divisor):
        total[0] = T.float32(0)
        for lane in T.unroll(step):
            total[0] = total[0] + sums[lane]
        total[0] = total[0] / divisor

    @T.macro
    def find_mean(row, normal, sums, total):
        for lane in T.vectorized(step):
            sums[lane] = T.float32(0)
        for i in T.serial(extent // step):
            for lane in T.vectorized(step):
                sums[lane] = sums[lane] + row.at(T.int64(i * step) + lane)
        add_up(sums, total, T.float32(spec.width))
        normal[1] = total[0]

    @T.macro
    def find(row, normal):
        with T.sblock("normal"):
            T.reads()
            T.writes()
            sums = local((step,))
            total = local((1,))
            if has_mean:
                find_mean(row, normal, sums, total)
            for lane in T.vectorized(step):
                sums[lane] = T.float32(0)
            for i in T.serial(extent // step):
                for lane in T.vectorized(step):
                    sums[lane] = sums[lane] + term(row, T.int64(i * step) + lane, normal) * term(
                        row, T.int64(i * step) + lane, normal
                    )
            add_up(sums, total, T.float32(spec.width))
            normal[0] = T.float32(1) / T.sqrt(total[0] + T.float32(spec.epsilon))

    return find
