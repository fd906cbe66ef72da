"""Products with small matrices that checkpoints store row by row. A block of columns of a row is one task."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local

_BLOCK = 8  # vectors of sums, which stay in registers


def low_rank_product(shape: tuple[int, int, int], dtype: str, weight_shape: tuple[int, ...]) -> tirx.PrimFunc:
    """X `(1, n, g * k)`, W `(g, k, m)` of `dtype` -> `(1, n, g * m)`: each of the g parts of a row times its
    own matrix. `shape` is `(g, k, m)`; the parameter W has the same values in `weight_shape`.
    """
    return _product(shape, dtype, weight_shape, lambda x: x)


def low_rank_tanh(shape: tuple[int, int, int], dtype: str, weight_shape: tuple[int, ...]) -> tirx.PrimFunc:
    """Return the tanh of `low_rank_product`."""
    return _product(shape, dtype, weight_shape, _tanh)


def _tanh(x: Any) -> Any:
    two, one = tirx.const(2.0, "float32"), tirx.const(1.0, "float32")
    return two * sigmoid(x * two) - one


def _product(
    shape: tuple[int, int, int], dtype: str, weight_shape: tuple[int, ...], activation: Any
) -> tirx.PrimFunc:
    groups, depth, columns = shape
    step = lanes(columns)
    num_vectors = columns // step
    block = next(count for count in range(_BLOCK, 0, -1) if num_vectors % count == 0)
    num_blocks = num_vectors // block

    @T.prim_func(s_tir=True, private=True)
    def product(x: T.handle, weight: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, groups * depth), "float32")
        P = T.match_buffer(weight, weight_shape, dtype)
        Y = T.match_buffer(y, (1, num_rows, groups * columns), "float32")
        W = T.decl_buffer((groups, depth, columns), dtype, data=P.data)
        with T.sblock("root"):
            for task in T.parallel(num_rows * (groups * num_blocks)):
                with T.sblock("task"):
                    T.reads()
                    T.writes()
                    row = T.meta_var(task // (groups * num_blocks))
                    group = T.meta_var(task // num_blocks % groups)
                    first = T.meta_var(task % num_blocks * (block * step))
                    sums = local((block * step,))
                    for lane in T.vectorized(block * step):
                        sums[lane] = T.float32(0)
                    for k in T.serial(depth):
                        for i in T.unroll(block):
                            for lane in T.vectorized(step):
                                sums[i * step + lane] = sums[i * step + lane] + X[
                                    0, row, group * depth + k
                                ] * T.Cast("float32", W[group, k, first + i * step + lane])
                    for i in T.unroll(block):
                        for lane in T.vectorized(step):
                            Y[0, row, group * columns + first + i * step + lane] = activation(
                                sums[i * step + lane]
                            )

    return product
