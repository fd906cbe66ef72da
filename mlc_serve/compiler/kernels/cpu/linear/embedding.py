"""Rows of an embedding table of floating-point numbers, which has the layout that the LM head reads."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.quantization.packing import LANES, tiles16_pairs_shape, tiles16_shape


def float_embedding(num_rows: int, width: int, weight_dtype: str, scale: float = 1.0) -> tirx.PrimFunc:
    """Ids `(s,)` int32, table in the layout "tiles16" -> the rows times `scale`, `(s, width)` float32.

    A tied embedding is kept once, in the layout of the LM head. So reading a row strides over the lanes of a
    tile.
    """

    @T.prim_func(s_tir=True, private=True)
    def embedding(ids: T.handle, table: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_ids = T.int64()
        I = T.match_buffer(ids, (num_ids,), "int32")
        W = T.match_buffer(table, tiles16_shape(num_rows, width), weight_dtype)
        Y = T.match_buffer(y, (num_ids, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_ids):
                for k in T.serial(width):
                    Y[i, k] = T.Cast("float32", W[I[i] // LANES, k, I[i] % LANES]) * T.float32(scale)

    return embedding


def pairs_embedding(num_rows: int, width: int, scale: float = 1.0) -> tirx.PrimFunc:
    """Ids `(s,)` int32, table of type bfloat16 in the layout "tiles16-pairs" -> the rows times `scale`,
    `(s, width)` float32.
    """

    @T.prim_func(s_tir=True, private=True)
    def embedding(ids: T.handle, table: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_ids = T.int64()
        I = T.match_buffer(ids, (num_ids,), "int32")
        W = T.match_buffer(table, tiles16_pairs_shape(num_rows, width), "bfloat16")
        Y = T.match_buffer(y, (num_ids, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_ids):
                for k in T.serial(width):
                    Y[i, k] = T.Cast(
                        "float32", W[I[i] // LANES, k // 2, I[i] % LANES * 2 + k % 2]
                    ) * T.float32(scale)

    return embedding


def position_embedding(num_positions: int, num_types: int, width: int) -> tirx.PrimFunc:
    """Positions `(s,)` int32, and row-major tables of positions and of token types -> the embedding of each
    position plus that of type 0, `(s, width)`, float32.
    """

    @T.prim_func(s_tir=True, private=True)
    def embedding(positions: T.handle, table: T.handle, types: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        I = T.match_buffer(positions, (num_rows,), "int32")
        W = T.match_buffer(table, (num_positions, width), "float32")
        Z = T.match_buffer(types, (num_types, width), "float32")
        Y = T.match_buffer(y, (num_rows, width), "float32")
        with T.sblock("root"):
            for i in T.parallel(num_rows):
                for k in T.serial(width):
                    Y[i, k] = W[I[i], k] + Z[0, k]

    return embedding


def add_positions(num_positions: int, width: int) -> tirx.PrimFunc:
    """X `(1, s, width)`, the positions of s or more rows in int32, and a row-major table -> X plus the row of
    each position, float32.
    """
    step = lanes(width)

    @T.macro
    def row_of(operands, row):
        X, I, W, Y = operands
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                Y[0, row, i * step + lane] = X[0, row, i * step + lane] + W[I[row], i * step + lane]

    each_row = each_row_macro(row_of)

    @T.prim_func(s_tir=True, private=True)
    def add(x: T.handle, positions: T.handle, table: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        num_places = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        I = T.match_buffer(positions, (num_places,), "int32")
        W = T.match_buffer(table, (num_positions, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row((X, I, W, Y), num_rows)

    return add
