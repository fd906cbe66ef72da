"""Rows of a quantized embedding table, which has the layout that the LM head reads."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.quantization.packing import LANES, tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat


def integer_embedding(num_rows: int, width: int, groups: GroupFormat, scale: float = 1.0) -> tirx.PrimFunc:
    """Ids `(s,)` int32, table and scales in the layouts "tiles16-u8" or "tiles16-u4" and "tiles16-scale" ->
    the rows times `scale`, `(s, width)` float32.
    """
    per_vector = 32 // groups.bits  # weights of a column that a vector holds

    def stored(W, row, k):
        byte = W[row // LANES, k // per_vector, row % LANES * 4 + k % 4]
        if groups.bits == 8:
            return byte
        shift = tirx.Cast("uint8", k % 8 // 4 * 4)
        return tirx.bitwise_and(tirx.shift_right(byte, shift), tirx.const(15, "uint8"))

    @T.prim_func(s_tir=True, private=True)
    def embedding(ids: T.handle, table: T.handle, scales: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_ids = T.int64()
        I = T.match_buffer(ids, (num_ids,), "int32")
        W = T.match_buffer(table, tiles16_integers_shape(num_rows, width, groups), "uint8")
        V = T.match_buffer(scales, tiles16_scale_shape(num_rows, width, groups), groups.scale_dtype)
        Y = T.match_buffer(y, (num_ids, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_ids):
                for k in T.serial(width):
                    Y[i, k] = (
                        (T.Cast("float32", stored(W, I[i], k)) - T.float32(groups.offset))
                        * T.Cast("float32", V[I[i] // LANES, k // groups.group_size, I[i] % LANES])
                        * T.float32(scale)
                    )

    return embedding
