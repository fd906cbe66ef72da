"""Presence, frequency and repetition penalties, on the few logits that they change. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T


@T.macro
def _count(I, S, table, index, vocab):
    """Fill `table` with 1 + how often a row's output has each token; 0 for tokens that it has not seen."""
    for i in T.serial(vocab):
        table[i] = 0
    for i in T.serial(S[index, 1] - S[index, 0]):
        table[I[S[index, 0] + i]] = 1
    for i in T.serial(S[index, 2] - S[index, 1]):
        table[I[S[index, 1] + i]] = T.max(table[I[S[index, 1] + i]], 1) + 1


@T.macro
def _apply(X, P, index, token, num_outputs):
    """Change one logit of a row."""
    if num_outputs > 0:
        X[index, token] = X[index, token] - (P[index, 0] + P[index, 1] * T.Cast("float32", num_outputs))
    if X[index, token] > T.float32(0):
        X[index, token] = X[index, token] / P[index, 2]
    else:
        X[index, token] = X[index, token] * P[index, 2]


def penalize_tokens() -> tirx.PrimFunc:
    """Apply presence, frequency and repetition penalties to logits `(n, vocab)` float32 in place.

    Ids `(t,)` int32 are the histories of all rows. Spans `(n, 3)` int32 say where in them a row's prompt
    starts, where its output starts, and where the output ends. Penalties `(n, 3)` float32 are presence,
    frequency and repetition. The first two count output tokens only; the third counts all, and is applied
    after them.
    """

    @T.prim_func(s_tir=True)
    def penalize(logits: T.handle, ids: T.handle, spans: T.handle, penalties: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        num_ids = T.int32()
        vocab = T.int32()
        X = T.match_buffer(logits, (num_rows, vocab), "float32", align=4)
        I = T.match_buffer(ids, (num_ids,), "int32", align=4)
        S = T.match_buffer(spans, (num_rows, 3), "int32", align=4)
        P = T.match_buffer(penalties, (num_rows, 3), "float32", align=4)
        for index in T.parallel(num_rows):
            if S[index, 2] > S[index, 0]:
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    table = T.sblock_alloc_buffer((vocab,), "int32")
                    _count(I, S, table, index, vocab)
                    for i in T.serial(S[index, 2] - S[index, 0]):
                        if table[I[S[index, 0] + i]] > 0:
                            _apply(X, P, index, I[S[index, 0] + i], table[I[S[index, 0] + i]] - 1)
                            table[I[S[index, 0] + i]] = 0

    return penalize
