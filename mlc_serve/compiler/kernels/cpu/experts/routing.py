"""Chooses the experts of each token. A row is one task."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2, sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.experts import ExpertGroups, Experts

_LEAST = -3e38  # below all scores


def choose_experts(experts: Experts) -> tirx.PrimFunc:
    """Logits `(1, s, E)` and a correction `(E,)` float32 (read only if the routing has one) -> the chosen
    experts `(s, k)` int32, the best first, and what their results are multiplied by, `(s, k)` float32.
    """
    num_experts, num_active = experts.num_experts, experts.num_active
    reads_correction = experts.routing.correction
    choose = choose_macro(experts)

    @T.macro
    def row_of(operands, row):
        L, C, I, S = operands
        choose(L, C, I, S, row)

    each_row = each_row_macro(row_of)

    @T.prim_func(s_tir=True, private=True)
    def routing(logits: T.handle, c: T.handle, ids: T.handle, shares: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        L = T.match_buffer(logits, (1, num_rows, num_experts), "float32")
        I = T.match_buffer(ids, (num_rows, num_active), "int32")
        S = T.match_buffer(shares, (num_rows, num_active), "float32")
        if reads_correction:
            C = T.match_buffer(c, (num_experts,), "float32")
        with T.sblock("root"):
            each_row((L, C if reads_correction else L, I, S), num_rows)

    return routing


def choose_macro(experts: Experts) -> Any:
    """The macro `choose(L, C, I, S, row)`: `choose_experts` for one row. If scores are no numbers, it chooses
    expert 0.
    """
    num_experts, routing = experts.num_experts, experts.routing
    score = _softmax_macro(num_experts) if routing.scores == "softmax" else _sigmoid_macro(num_experts)
    limit = _limit_macro(num_experts, routing.groups) if routing.groups is not None else None
    pick, weigh = _pick_macro(experts), _weigh_macro(experts)

    @T.macro
    def choose(L, C, I, S, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            scores = local((num_experts,))
            ranks = local((num_experts,))
            score(L, scores, row)
            for e in T.serial(num_experts):
                ranks[e] = scores[e] + C[e] if routing.correction else scores[e]
            if limit is not None:
                limit(ranks)
            pick(scores, ranks, I, S, row)
            weigh(S, row)

    return choose


def _softmax_macro(num_experts: int) -> Any:
    @T.macro
    def softmax(L, scores, row):
        with T.sblock("softmax"):
            T.reads()
            T.writes()
            peak = local((1,))
            total = local((1,))
            peak[0] = T.float32(_LEAST)
            total[0] = T.float32(0)
            for e in T.serial(num_experts):
                peak[0] = T.max(peak[0], L[0, row, e])
            for e in T.serial(num_experts):
                scores[e] = exp2((L[0, row, e] - peak[0]) * T.float32(math.log2(math.e)))
                total[0] = total[0] + scores[e]
            for e in T.serial(num_experts):
                scores[e] = scores[e] / total[0]

    return softmax


def _sigmoid_macro(num_experts: int) -> Any:
    @T.macro
    def each_sigmoid(L, scores, row):
        for e in T.serial(num_experts):
            scores[e] = sigmoid(L[0, row, e])

    return each_sigmoid


def _limit_macro(num_experts: int, groups: ExpertGroups) -> Any:
    """The macro `limit(ranks)`: rank experts outside of the best groups below all others."""
    size = num_experts // groups.number

    @T.macro
    def rate(ranks, ratings, second, group):
        ratings[group] = T.float32(_LEAST)
        second[0] = T.float32(_LEAST)
        for e in T.serial(size):
            second[0] = T.max(second[0], T.min(ratings[group], ranks[group * size + e]))
            ratings[group] = T.max(ratings[group], ranks[group * size + e])
        if groups.summed == 2:
            ratings[group] = ratings[group] + second[0]

    @T.macro
    def keep_best(ratings, kept, best):
        best[0] = 0
        for group in T.serial(groups.number):
            if ratings[group] > ratings[best[0]]:
                best[0] = group
        ratings[best[0]] = T.float32(_LEAST)
        kept[best[0]] = 1

    @T.macro
    def limit(ranks):
        with T.sblock("groups"):
            T.reads()
            T.writes()
            ratings = local((groups.number,))
            kept = local((groups.number,), "int32")
            second = local((1,))
            best = local((1,), "int32")
            for group in T.serial(groups.number):
                kept[group] = 0
                rate(ranks, ratings, second, group)
            for _ in T.serial(groups.num_active):
                keep_best(ratings, kept, best)
            for e in T.serial(num_experts):
                if kept[e // size] == 0:
                    ranks[e] = T.float32(_LEAST)

    return limit


def _pick_macro(experts: Experts) -> Any:
    """The macro `pick(scores, ranks, I, S, row)`: the experts of the greatest ranks, and their scores."""

    @T.macro
    def pick(scores, ranks, I, S, row):
        with T.sblock("pick"):
            T.reads()
            T.writes()
            best = local((1,), "int32")
            peak = local((1,))
            for choice in T.serial(experts.num_active):
                best[0] = 0
                peak[0] = T.float32(_LEAST)
                for e in T.serial(experts.num_experts):
                    if ranks[e] > peak[0]:
                        best[0] = e
                        peak[0] = ranks[e]
                ranks[best[0]] = T.float32(_LEAST)
                I[row, choice] = best[0]
                S[row, choice] = scores[best[0]]

    return pick


def _weigh_macro(experts: Experts) -> Any:
    """The macro `weigh(S, row)`: scores to what results are multiplied by."""
    routing, num_active = experts.routing, experts.num_active

    @T.macro
    def weigh(S, row):
        with T.sblock("weigh"):
            T.reads()
            T.writes()
            total = local((1,))
            total[0] = T.float32(0)
            for choice in T.serial(num_active):
                total[0] = total[0] + S[row, choice]
            if not routing.renormalized:
                total[0] = T.float32(1)
            for choice in T.serial(num_active):
                # If all scores are 0, so are the shares.
                S[row, choice] = (
                    S[row, choice] / T.max(total[0], T.float32(1e-20)) * T.float32(routing.factor)
                )

    return weigh
