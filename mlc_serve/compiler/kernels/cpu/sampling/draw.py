"""The choice of a token from each row of logits. A row is one task.

A core reads its row into its cache once, and all further passes find it there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.sampling.logits_row import (
    CHUNK,
    Row,
    chunk_length,
    find_extremes,
    num_chunks,
    weigh,
)
from mlc_serve.compiler.kernels.cpu.sampling.prefix_search import Prefix, aim_at_count, keep_prefix, search

_LOG2_E = math.log2(math.e)
_SMALLEST = -126.0  # log2 of the least weight; smaller ones are zero
_ROUNDING = 0.01  # by how much a bound in log2 is lowered: far more than float32 loses


@T.macro
def _find_peak(row, token):
    """Find the first token with the greatest logit."""
    with T.sblock("peak"):
        T.reads()
        T.writes()
        place = local((1,), "int32")
        place[0] = 0
        while row.maxima[place[0]] < row.extremes[0]:
            place[0] = place[0] + 1
        place[0] = place[0] * CHUNK
        while row.logits[row.index, place[0]] < row.extremes[0]:
            place[0] = place[0] + 1
        token[0] = place[0]


@T.macro
def _find_by_id(row, goal, token):
    """Find the first token, by id, with which the sum of the weights reaches `goal`."""
    with T.sblock("by_id"):
        T.reads()
        T.writes()
        chunk = local((1,), "int32")
        reached = local((1,), "float64")
        chunk[0] = 0
        reached[0] = T.float64(0)
        while reached[0] + row.sums[chunk[0]] < goal:
            reached[0] = reached[0] + row.sums[chunk[0]]
            chunk[0] = chunk[0] + 1
        for i in T.serial(chunk_length(row.vocab, chunk[0])):
            if reached[0] < goal and row.weights[chunk[0] * CHUNK + i] > T.float32(0):
                token[0] = chunk[0] * CHUNK + i
                reached[0] = reached[0] + T.Cast("float64", row.weights[chunk[0] * CHUNK + i])


class _Asked(NamedTuple):
    """A row's filters, and the factor that turns its logits into exponents of two."""

    scale: Any
    top_k: Any
    top_p: Any
    min_p: Any


@T.macro
def _aim_at_top_p(row, asked, total, kept, goal):
    """Make a share of the `total`, of at most top_k tokens, the goal of a search. The search skips tokens
    whose weights are so small that all of them together weigh less than what a nucleus leaves out.
    """
    with T.sblock("aim"):
        T.reads()
        T.writes()
        weight = local((1,))
        weight[0] = T.Cast("float32", (T.float64(1) - asked.top_p) * total / asked.top_k)
        kept.floor[0] = T.max(
            kept.floor[0], row.extremes[0] + (T.log2(weight[0]) - T.float32(_ROUNDING)) / asked.scale
        )
        kept.mass[0] = total
        goal[0] = asked.top_p * total


@T.macro
def _limit_to_min_p(row, asked, kept):
    """Keep only tokens that are at least `min_p` times as likely as the likeliest."""
    with T.sblock("min_p"):
        T.reads()
        T.writes()
        floor = local((1,))
        floor[0] = row.extremes[0] + T.log2(asked.min_p) / asked.scale
        if floor[0] > kept.floor[0]:
            kept.floor[0] = floor[0]
            kept.last[0] = row.vocab - 1


@T.macro
def _filter(row, asked, total):
    """Weigh a row, and set the weights of all tokens that top_k, top_p and min_p exclude to zero. `total[0]`
    is the weight that remains.

    The first two filters are searches. They are in one loop, so that the search is compiled once.
    """
    with T.sblock("filter"):
        T.reads()
        T.writes()
        floor = local((1,))
        last = local((1,), "int32")
        mass = local((1,), "float64")
        goal = local((1,), "float64")
        kept = T.meta_var(Prefix(floor, last, mass))
        floor[0] = T.max(row.extremes[1], row.extremes[0] + T.float32(_SMALLEST) / asked.scale)
        last[0] = row.vocab - 1
        for stage in T.serial(2):
            goal[0] = T.float64(0)
            if stage == 0:
                if asked.top_k < row.vocab:
                    aim_at_count(row, asked.top_k, kept)
                    goal[0] = T.Cast("float64", asked.top_k)
            else:
                weigh(row, asked.scale, total)
                if asked.top_p < T.float64(1):
                    if asked.top_k < row.vocab:
                        keep_prefix(row, kept, total)
                    _aim_at_top_p(row, asked, total[0], kept, goal)
            if goal[0] > T.float64(0):
                search(row, T.Select(stage == 0, T.float32(0), asked.scale), goal[0], kept)
        _limit_to_min_p(row, asked, kept)
        keep_prefix(row, kept, total)


@T.macro
def _draw(row, settings, total, token):
    """Draw a token by the row's settings: temperature, top_k, top_p, min_p, and the number that decides."""
    with T.sblock("draw"):
        T.reads()
        T.writes()
        scale = local((1,))
        scale[0] = T.Cast("float32", T.float64(_LOG2_E) / settings[row.index, 0])
        asked = T.meta_var(
            _Asked(
                scale[0],
                T.Cast("int32", T.min(settings[row.index, 1], T.Cast("float64", row.vocab))),
                settings[row.index, 2],
                T.Cast("float32", settings[row.index, 3]),
            )
        )
        if asked.top_k < row.vocab or asked.top_p < T.float64(1) or asked.min_p > T.float32(0):
            _filter(row, asked, total)
        else:
            weigh(row, scale[0], total)
        _find_by_id(row, settings[row.index, 4] * total[0], token)


def choose_tokens() -> tirx.PrimFunc:
    """Logits `(n, vocab)` float32, settings `(n, 5)` float64 -> tokens `(n,)` int32, peaks `(n,)` float32.

    Settings are temperature (0 takes the likeliest token), top_k (at least vocab takes all), top_p, min_p,
    and a number in (0, 1): the drawn token is the first, by id, with which the sum of the weights reaches
    that share of what the filters leave. A peak is the greatest logit, or NaN. If it is not finite, no token
    is drawn from the row.
    """

    @T.prim_func(s_tir=True)
    def choose(logits: T.handle, settings: T.handle, tokens: T.handle, peaks: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        vocab = T.int32()
        X = T.match_buffer(logits, (num_rows, vocab), "float32", align=4)
        S = T.match_buffer(settings, (num_rows, 5), "float64", align=8)
        Y = T.match_buffer(tokens, (num_rows,), "int32", align=4)
        P = T.match_buffer(peaks, (num_rows,), "float32", align=4)
        for index in T.parallel(num_rows):
            with T.sblock("row"):
                T.reads()
                T.writes()
                weights = T.sblock_alloc_buffer((vocab,), "float32")
                maxima = T.sblock_alloc_buffer((num_chunks(vocab),), "float32")
                sums = T.sblock_alloc_buffer((num_chunks(vocab),), "float64")
                extremes = local((2,))
                total = local((1,), "float64")
                token = local((1,), "int32")
                row = T.meta_var(Row(X, index, vocab, weights, maxima, sums, extremes))
                token[0] = 0
                find_extremes(row)
                if T.isfinite(extremes[0]):
                    if S[index, 0] > T.float64(0):
                        _draw(row, S, total, token)
                    else:
                        _find_peak(row, token)
                Y[index] = token[0]
                P[index] = extremes[0]

    return choose
