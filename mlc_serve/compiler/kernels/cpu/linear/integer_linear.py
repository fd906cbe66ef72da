"""A linear layer as one kernel: RMS normalization if needed, rounding to bytes, and the product with
integers.

The rounded rows are in the kernel's own memory, and only the layer's input and output are seen outside. So a
step of the model has few operators to start and few tensors to keep track of.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows, quantize_macro
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, extra_shape, has_extra, out_columns
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import IntegerOperands, product_macro
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


@dataclass(frozen=True)
class LinearShape:
    """The shape of a layer. With `epsilon` its input is normalised first."""

    num_columns: int
    depth: int
    groups: GroupFormat
    epilogue: Epilogue
    in_dtype: str
    out_dtype: str
    epsilon: float | None = None


def integer_linear(shape: LinearShape, dot: Dot) -> tirx.PrimFunc:
    """X `(1, s, K)`, norm weight `(K,)` float32 (read only with `epsilon`), weights, scales, and a bias
    `(N,)` or residual `(1, s, N)` float32 (read only with such an epilogue) -> Y.

    Weights and the result are those of `product_macro`. What is not read may be any tensor of that type.
    """
    depth, groups = shape.depth, shape.groups
    round_rows = quantize_macro(depth, groups, dot.offset, shape.epsilon)
    product = product_macro(shape.num_columns, depth, groups, shape.epilogue, shape.out_dtype, dot)
    num_groups = groups.count(depth)
    weight_shape = tiles16_integers_shape(shape.num_columns, depth, groups)
    scale_shape = tiles16_scale_shape(shape.num_columns, depth, groups)
    y_columns = out_columns(shape.num_columns, shape.epilogue)
    reads_norm, reads_extra = shape.epsilon is not None, has_extra(shape.epilogue)

    @T.macro
    def body(X, N, W, V, E, Y, num_rows):
        words = T.sblock_alloc_buffer((1, num_rows, groups.padded(depth) // 4), "int32")
        scales = T.sblock_alloc_buffer((1, num_rows, num_groups), "float32")
        starts = T.sblock_alloc_buffer((1, num_rows, num_groups), "int32")
        rows = T.meta_var(ByteRows(words, scales, starts))
        round_rows(X, N, rows, num_rows)
        product(IntegerOperands(rows, W, V), E, Y, num_rows)

    @T.prim_func(s_tir=True, private=True)
    def linear(x: T.handle, n: T.handle, w: T.handle, v: T.handle, e: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), shape.in_dtype)
        W = T.match_buffer(w, weight_shape, "uint8")
        V = T.match_buffer(v, scale_shape, groups.scale_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), shape.out_dtype)
        if reads_norm:
            N = T.match_buffer(n, (depth,), "float32")
        if reads_extra:
            E = T.match_buffer(e, extra_shape(shape.num_columns, num_rows, shape.epilogue), "float32")
        with T.sblock("root"):
            body(X, N if reads_norm else X, W, V, E if reads_extra else X, Y, num_rows)

    return linear
