"""Rows of an embedding table that is packed as the LM head reads it."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import LANES


def packed_embedding(num_rows: int, width: int, weight_dtype: str) -> tirx.PrimFunc:
    """Ids `(s,)` int32, table `(ceil(num_rows / 16), width, 16)` -> `(s, width)` float32.

    A tied embedding is kept once, in the layout of the LM head: reading a row from it strides over the tile's
    lanes.
    """
    num_tiles = -(-num_rows // LANES)

    @T.prim_func(s_tir=True, private=True)
    def embedding(ids: T.handle, table: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_ids = T.int64()
        I = T.match_buffer(ids, (num_ids,), "int32")
        W = T.match_buffer(table, (num_tiles, width, LANES), weight_dtype)
        Y = T.match_buffer(y, (num_ids, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_ids):
                for k in T.serial(width):
                    Y[i, k] = T.Cast("float32", W[I[i] // LANES, k, I[i] % LANES])

    return embedding


def pairs_embedding(num_rows: int, width: int) -> tirx.PrimFunc:
    """Ids `(s,)` int32, table of type bfloat16 in the layout "tiles16-pairs" -> `(s, width)` float32."""
    num_tiles = -(-num_rows // LANES)

    @T.prim_func(s_tir=True, private=True)
    def embedding(ids: T.handle, table: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_ids = T.int64()
        I = T.match_buffer(ids, (num_ids,), "int32")
        W = T.match_buffer(table, (num_tiles, -(-width // 2), 2 * LANES), "bfloat16")
        Y = T.match_buffer(y, (num_ids, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_ids):
                for k in T.serial(width):
                    Y[i, k] = T.Cast("float32", W[I[i] // LANES, k // 2, I[i] % LANES * 2 + k % 2])

    return embedding
