"""The two parts of `integer_linear`, rounding and the product, each as a kernel that can be run by itself."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows, NormWeights, quantize_macro
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Addends, Epilogue
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import IntegerOperands, product_macro
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


def integer_matmul(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> tirx.PrimFunc:
    """The macro of `product_macro` as a kernel `(x, s, z, w, v, b, r, y)`. All are read."""
    product = product_macro(num_columns, depth, groups, epilogue, out_dtype, dot)
    padded, num_groups = groups.padded(depth), groups.count(depth)
    weight_shape = tiles16_integers_shape(num_columns, depth, groups)
    scale_shape = tiles16_scale_shape(num_columns, depth, groups)
    y_columns = epilogue.out_columns(num_columns)

    @T.prim_func(s_tir=True, private=True)
    def matmul(
        x: T.handle, s: T.handle, z: T.handle, w: T.handle, v: T.handle, b: T.handle, r: T.handle, y: T.handle
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, padded // 4), "int32")
        S = T.match_buffer(s, (1, num_rows, num_groups), "float32")
        Z = T.match_buffer(z, (1, num_rows, num_groups), "int32")
        W = T.match_buffer(w, weight_shape, "uint8")
        V = T.match_buffer(v, scale_shape, groups.scale_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), out_dtype)
        B = T.match_buffer(b, (num_columns,), "float32")
        R = T.match_buffer(r, (1, num_rows, num_columns), "float32")
        with T.sblock("root"):
            product(IntegerOperands(ByteRows(X, S, Z), W, V), Addends(B, R), Y, num_rows)

    return matmul


def quantize_rows(
    width: int, groups: GroupFormat, offset: int, dtype: str, norm: Norm | None = None
) -> tirx.PrimFunc:
    """The macro of `quantize_macro` as a kernel: X `(1, s, K)` of `dtype`, and the weight and the bias
    `(K,)` float32 of a norm, read only if there is one -> words `(1, s, Kp / 4)` int32, scales `(1, s, G)`
    float32 and starts `(1, s, G)` int32.
    """
    all_rows = quantize_macro(width, groups, offset, norm)
    padded, num_groups = groups.padded(width), groups.count(width)

    @T.prim_func(s_tir=True, private=True)
    def quantize(x: T.handle, n: T.handle, b: T.handle, w: T.handle, s: T.handle, z: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), dtype)
        weight = T.match_buffer(n, (width,), "float32")
        bias = T.match_buffer(b, (width,), "float32")
        words = T.match_buffer(w, (1, num_rows, padded // 4), "int32")
        scales = T.match_buffer(s, (1, num_rows, num_groups), "float32")
        starts = T.match_buffer(z, (1, num_rows, num_groups), "int32")
        with T.sblock("root"):
            all_rows(X, NormWeights(weight, bias), ByteRows(words, scales, starts), num_rows)

    return quantize
