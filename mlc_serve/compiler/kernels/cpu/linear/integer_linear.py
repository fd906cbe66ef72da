"""A linear layer as one kernel: normalization if needed, rounding to bytes, and the product with
integers.

The rounded rows are in the kernel's own memory, and only the layer's input and output are seen outside. So a
step of the model has few operators to start and few tensors to keep track of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows, NormWeights, quantize_macro
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Addends, Epilogue
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import IntegerOperands, product_macro
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


@dataclass(frozen=True)
class LinearShape:
    """The shape of a layer. With `norm` its input is normalised first."""

    num_columns: int
    depth: int
    groups: GroupFormat
    epilogue: Epilogue
    in_dtype: str
    out_dtype: str
    norm: Norm | None = None


def integer_linear(shape: LinearShape, dot: Dot) -> tirx.PrimFunc:
    """X `(1, s, K)`, the weight and the bias `(K,)` float32 of the norm, weights, scales, and a bias `(N,)`
    and a residual `(1, s, N)` float32 -> Y. What the norm and the epilogue don't read may be any tensor.

    Weights and the result are those of `product_macro`.
    """
    depth, groups = shape.depth, shape.groups
    body = _body_macro(shape, dot)
    weight_shape = tiles16_integers_shape(shape.num_columns, depth, groups)
    scale_shape = tiles16_scale_shape(shape.num_columns, depth, groups)
    y_columns = shape.epilogue.out_columns(shape.num_columns)
    has_norm, has_norm_bias = shape.norm is not None, shape.norm is not None and shape.norm.bias
    has_bias, has_residual = shape.epilogue.bias, shape.epilogue.residual

    @T.prim_func(s_tir=True, private=True)
    def linear(
        x: T.handle,
        n: T.handle,
        o: T.handle,
        w: T.handle,
        v: T.handle,
        b: T.handle,
        r: T.handle,
        y: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), shape.in_dtype)
        W = T.match_buffer(w, weight_shape, "uint8")
        V = T.match_buffer(v, scale_shape, groups.scale_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), shape.out_dtype)
        if has_norm:
            N = T.match_buffer(n, (depth,), "float32")
        if has_norm_bias:
            O = T.match_buffer(o, (depth,), "float32")
        if has_bias:
            B = T.match_buffer(b, (shape.num_columns,), "float32")
        if has_residual:
            R = T.match_buffer(r, (1, num_rows, shape.num_columns), "float32")
        with T.sblock("root"):
            body(
                X,
                NormWeights(N if has_norm else X, O if has_norm_bias else X),
                W,
                V,
                Addends(B if has_bias else X, R if has_residual else X),
                Y,
                num_rows,
            )

    return linear


def _body_macro(shape: LinearShape, dot: Dot) -> Any:
    """The macro `body(X, norm, W, V, addends, Y, num_rows)`: round the rows, and multiply them."""
    depth, groups = shape.depth, shape.groups
    num_groups = groups.count(depth)
    round_rows = quantize_macro(depth, groups, dot.offset, shape.norm)
    product = product_macro(shape.num_columns, depth, groups, shape.epilogue, shape.out_dtype, dot)

    @T.macro
    def body(X, norm, W, V, addends, Y, num_rows):
        words = T.sblock_alloc_buffer((1, num_rows, groups.padded(depth) // 4), "int32")
        scales = T.sblock_alloc_buffer((1, num_rows, num_groups), "float32")
        starts = T.sblock_alloc_buffer((1, num_rows, num_groups), "int32")
        rows = T.meta_var(ByteRows(words, scales, starts))
        round_rows(X, norm, rows, num_rows)
        product(IntegerOperands(rows, W, V), addends, Y, num_rows)

    return body
