"""The two parts of `integer_linear`, rounding and the product, each as a kernel that can be run by itself."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.linear.activation_bytes import ByteRows, quantize_macro
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, extra_shape, has_extra, out_columns
from mlc_serve.compiler.kernels.cpu.linear.integer_matmul import IntegerOperands, product_macro
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


def integer_matmul(
    num_columns: int, depth: int, groups: GroupFormat, epilogue: Epilogue, out_dtype: str, dot: Dot
) -> tirx.PrimFunc:
    """The macro of `product_macro` as a kernel `(x, s, z, w, v, e, y)`. What is not read can be anything."""
    product = product_macro(num_columns, depth, groups, epilogue, out_dtype, dot)
    padded, num_groups = groups.padded(depth), groups.count(depth)
    weight_shape = tiles16_integers_shape(num_columns, depth, groups)
    scale_shape = tiles16_scale_shape(num_columns, depth, groups)
    y_columns, reads_extra = out_columns(num_columns, epilogue), has_extra(epilogue)

    @T.prim_func(s_tir=True, private=True)
    def matmul(x: T.handle, s: T.handle, z: T.handle, w: T.handle, v: T.handle, e: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, padded // 4), "int32")
        S = T.match_buffer(s, (1, num_rows, num_groups), "float32")
        Z = T.match_buffer(z, (1, num_rows, num_groups), "int32")
        W = T.match_buffer(w, weight_shape, "uint8")
        V = T.match_buffer(v, scale_shape, groups.scale_dtype)
        Y = T.match_buffer(y, (1, num_rows, y_columns), out_dtype)
        if reads_extra:
            E = T.match_buffer(e, extra_shape(num_columns, num_rows, epilogue), "float32")
        with T.sblock("root"):
            product(IntegerOperands(ByteRows(X, S, Z), W, V), E if reads_extra else S, Y, num_rows)

    return matmul


def quantize_rows(
    width: int, groups: GroupFormat, offset: int, dtype: str, epsilon: float | None = None
) -> tirx.PrimFunc:
    """The macro of `quantize_macro` as a kernel: X `(1, s, K)` of `dtype` -> words `(1, s, Kp / 4)` int32,
    scales `(1, s, G)` float32 and starts `(1, s, G)` int32.

    With `epsilon` it takes a norm's weight `(K,)` float32 after X, and normalises the rows first.
    """
    all_rows = quantize_macro(width, groups, offset, epsilon)
    padded, num_groups = groups.padded(width), groups.count(width)

    if epsilon is None:

        @T.prim_func(s_tir=True, private=True)
        def quantize(x: T.handle, w: T.handle, s: T.handle, z: T.handle):
            T.func_attr({"tirx.noalias": True, "op_pattern": 8})
            num_rows = T.int64()
            X = T.match_buffer(x, (1, num_rows, width), dtype)
            words = T.match_buffer(w, (1, num_rows, padded // 4), "int32")
            scales = T.match_buffer(s, (1, num_rows, num_groups), "float32")
            starts = T.match_buffer(z, (1, num_rows, num_groups), "int32")
            with T.sblock("root"):
                all_rows(X, X, ByteRows(words, scales, starts), num_rows)

        return quantize

    @T.prim_func(s_tir=True, private=True)
    def norm_quantize(x: T.handle, n: T.handle, w: T.handle, s: T.handle, z: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), dtype)
        weight = T.match_buffer(n, (width,), "float32")
        words = T.match_buffer(w, (1, num_rows, padded // 4), "int32")
        scales = T.match_buffer(s, (1, num_rows, num_groups), "float32")
        starts = T.match_buffer(z, (1, num_rows, num_groups), "int32")
        with T.sblock("root"):
            all_rows(X, weight, ByteRows(words, scales, starts), num_rows)

    return norm_quantize
