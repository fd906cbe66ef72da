"""What logprobs need: the normalizers of rows of logits, and their likeliest tokens. A row is one task."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.sampling.logits_row import Row, find_extremes, num_chunks, weigh
from mlc_serve.compiler.kernels.cpu.sampling.prefix_search import (
    Found,
    Prefix,
    aim_at_count,
    list_between,
    search,
)

_LOG2_E = math.log2(math.e)


@T.macro
def _list_likeliest(row, found, num_top):
    """Find the `num_top` likeliest tokens, or fewer if fewer have a finite logit."""
    with T.sblock("list"):
        T.reads()
        T.writes()
        floor = local((1,))
        last = local((1,), "int32")
        mass = local((1,), "float64")
        floor[0] = row.extremes[1]
        kept = T.meta_var(Prefix(floor, last, mass))
        aim_at_count(row, num_top, kept)
        search(row, T.float32(0), T.Cast("float64", num_top), kept)
        list_between(row, floor[0], T.float32("inf"), found, num_top, row.vocab)
        found.count[0] = T.min(found.count[0], num_top)


def score_rows() -> tirx.PrimFunc:
    """Logits `(n, vocab)` float32, wanted `(m, 2)` int32 -> normalizers `(m,)` float64, listed `(m,)` and ids
    `(m, width)` int32.

    Each of `wanted` is a row and the number of its likeliest tokens, at most `width`, to list. The normalizer
    is the log of the sum of exp of the logits. If the greatest logit is not finite, the normalizer is NaN and
    no token is listed.
    """

    @T.prim_func(s_tir=True)
    def scores(logits: T.handle, wanted: T.handle, normalizers: T.handle, listed: T.handle, ids: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        num_wanted = T.int32()
        vocab = T.int32()
        width = T.int32()
        X = T.match_buffer(logits, (num_rows, vocab), "float32", align=4)
        W = T.match_buffer(wanted, (num_wanted, 2), "int32", align=4)
        N = T.match_buffer(normalizers, (num_wanted,), "float64", align=8)
        L = T.match_buffer(listed, (num_wanted,), "int32", align=4)
        I = T.match_buffer(ids, (num_wanted, width), "int32", align=4)
        for task in T.parallel(num_wanted):
            with T.sblock("row"):
                T.reads()
                T.writes()
                weights = T.sblock_alloc_buffer((vocab,), "float32")
                maxima = T.sblock_alloc_buffer((num_chunks(vocab),), "float32")
                sums = T.sblock_alloc_buffer((num_chunks(vocab),), "float64")
                top = T.sblock_alloc_buffer((width,), "int32")
                extremes = local((2,))
                total = local((1,), "float64")
                length = local((1,), "int32")
                row = T.meta_var(Row(X, W[task, 0], vocab, weights, maxima, sums, extremes))
                length[0] = 0
                find_extremes(row)
                if T.isfinite(extremes[0]):
                    weigh(row, T.float32(_LOG2_E), total)
                    N[task] = T.Cast("float64", extremes[0]) + T.log(total[0])
                    if W[task, 1] > 0:
                        _list_likeliest(row, Found(top, length), W[task, 1])
                else:
                    N[task] = T.float64("nan")
                for i in T.serial(length[0]):
                    I[task, i] = top[i]
                L[task] = length[0]

    return scores
