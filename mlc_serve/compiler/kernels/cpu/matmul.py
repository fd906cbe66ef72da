"""Y = X W^T, plus a bias or a residual, for weights packed in tiles of 16 output columns.

W is `(ceil(N / 16), K, 16)`: a task streams its tiles from memory once, in order, and each weight vector
meets up to eight rows of X while it is in a register; a row's value is broadcast from memory as the other
operand. Weights may be float16: they are widened on the way in. Rows are taken 8, 4, 2 and 1 at a time, so
that a batch of any size reads a tile from the cache after the first pass over it.
"""

from __future__ import annotations

from typing import Literal

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.lanes import LANES
from mlc_serve.compiler.kernels.cpu.local import local

Epilogue = Literal["none", "bias", "residual"]


def packed_matmul(num_columns: int, depth: int, weight_dtype: str, epilogue: Epilogue) -> tirx.PrimFunc:
    """The product as a PrimFunc.

    X `(1, s, K)` float32, W `(ceil(N / 16), K, 16)`, [bias `(N,)` or residual `(1, s, N)`, float32]
    -> Y `(1, s, N)` float32.
    """
    num_tiles = -(-num_columns // LANES)
    tiles = (
        2 if num_tiles % 2 == 0 else 1
    )  # neighbouring tiles of a task: with 8 rows, 16 accumulators of 32 registers
    last_width = num_columns - (num_tiles - 1) * LANES

    @T.macro
    def store(acc, E, Y, row, tile, slot, lane):
        if epilogue == "bias":
            Y[0, row, tile * LANES + lane] = acc[slot, lane] + E[tile * LANES + lane]
        elif epilogue == "residual":
            Y[0, row, tile * LANES + lane] = acc[slot, lane] + E[0, row, tile * LANES + lane]
        else:
            Y[0, row, tile * LANES + lane] = acc[slot, lane]

    @T.macro
    def store_tile(acc, E, Y, row, tile, slot):
        if last_width == LANES or tile < num_tiles - 1:
            for lane in T.vectorized(LANES):
                store(acc, E, Y, row, tile, slot, lane)
        else:
            for lane in T.serial(last_width):
                store(acc, E, Y, row, tile, slot, lane)

    @T.macro
    def rows(X, W, E, Y, row, tile, height):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            acc = local((height * tiles, LANES))
            for slot in T.unroll(height * tiles):
                for lane in T.vectorized(LANES):
                    acc[slot, lane] = T.float32(0)
            for k in T.serial(depth):
                for j in T.unroll(tiles):
                    for i in T.unroll(height):
                        for lane in T.vectorized(LANES):
                            acc[i * tiles + j, lane] = acc[i * tiles + j, lane] + X[0, row + i, k] * T.Cast(
                                "float32", W[tile + j, k, lane]
                            )
            for i in T.unroll(height):
                for j in T.unroll(tiles):
                    store_tile(acc, E, Y, row + i, tile + j, i * tiles + j)

    @T.macro
    def product(X, W, E, Y, num_rows):
        for block in T.parallel(num_tiles // tiles):
            for eight in T.serial(num_rows // 8):
                rows(X, W, E, Y, eight * 8, block * tiles, 8)
            if num_rows % 8 >= 4:
                rows(X, W, E, Y, num_rows // 8 * 8, block * tiles, 4)
            if num_rows % 4 >= 2:
                rows(X, W, E, Y, num_rows // 4 * 4, block * tiles, 2)
            if num_rows % 2 == 1:
                rows(X, W, E, Y, num_rows - 1, block * tiles, 1)

    if epilogue == "none":

        @T.prim_func(s_tir=True, private=True)
        def matmul(x: T.handle, w: T.handle, y: T.handle):
            T.func_attr({"tirx.noalias": True, "op_pattern": 8})
            num_rows = T.int64()
            X = T.match_buffer(x, (1, num_rows, depth), "float32")
            W = T.match_buffer(w, (num_tiles, depth, LANES), weight_dtype)
            Y = T.match_buffer(y, (1, num_rows, num_columns), "float32")
            with T.sblock("root"):
                product(X, W, X, Y, num_rows)

        return matmul

    @T.prim_func(s_tir=True, private=True)
    def matmul_plus(x: T.handle, w: T.handle, e: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, depth), "float32")
        W = T.match_buffer(w, (num_tiles, depth, LANES), weight_dtype)
        E = T.match_buffer(e, (num_columns,) if epilogue == "bias" else (1, num_rows, num_columns), "float32")
        Y = T.match_buffer(y, (1, num_rows, num_columns), "float32")
        with T.sblock("root"):
            product(X, W, E, Y, num_rows)

    return matmul_plus
