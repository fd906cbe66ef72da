"""Masks by which grammars and other rules exclude tokens, one bit for each token. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.quantization.packing import LANES


@T.macro
def _keep(X, M, row, task, word, start, width):
    """Apply `width` bits of a word of a mask, from bit `start`."""
    for lane in T.vectorized(width):
        X[row, word * 32 + start + lane] = T.Select(
            T.bitwise_and(T.shift_right(M[task, word], start + lane), 1) > 0,
            X[row, word * 32 + start + lane],
            T.float32("-inf"),
        )


def mask_tokens() -> tirx.PrimFunc:
    """Make the tokens that a mask excludes impossible, in place.

    Logits `(n, vocab)` float32, rows `(m,)` int32, masks `(m, ceil(vocab / 32))` int32: bit t % 32 of word
    t // 32 is set if token t may be drawn.
    """

    @T.prim_func(s_tir=True)
    def mask(logits: T.handle, rows: T.handle, masks: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        num_masks = T.int32()
        vocab = T.int32()
        X = T.match_buffer(logits, (num_rows, vocab), "float32", align=4)
        R = T.match_buffer(rows, (num_masks,), "int32", align=4)
        M = T.match_buffer(masks, (num_masks, (vocab + 31) // 32), "int32", align=4)
        for task in T.parallel(num_masks):
            for word in T.serial(vocab // 32):
                for half in T.unroll(2):
                    _keep(X, M, R[task], task, word, half * LANES, LANES)
            for bit in T.serial(vocab % 32):
                _keep(X, M, R[task], task, vocab // 32, bit, 1)

    return mask
