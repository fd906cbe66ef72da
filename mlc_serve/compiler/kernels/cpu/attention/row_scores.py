"""Scores of keys that lie position by position in their pages: each is a sum across a register.

Registers hold the sums of a few keys by a few query heads, so that each vector that is loaded is used for
several of them. What a sum across a register costs is little beside a key's many values.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED
from mlc_serve.compiler.kernels.cpu.primitives.divisor import greatest_divisor
from mlc_serve.compiler.kernels.cpu.primitives.horizontal import horizontal_sum
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector


def row_scores_macro(heads: Heads, num_pages: int, sums: int, *, is_masked: bool) -> Any:
    """The macro `score(P, state, scores, run, n, h)`: scores of all keys of the nth row's run of `num_pages`.
    If they are to be masked, keys that do not exist or are not seen get MASKED. Registers have room for
    `sums` vectors.
    """
    group = heads.group
    num_keys = greatest_divisor(PAGE_SIZE, int(sums**0.5))
    together = greatest_divisor(group, sums // num_keys)
    multiply = _multiply_macro(heads, together, num_keys)

    def masked(run: Any, n: Any, p: Any, t: Any, product: Any) -> Any:
        return tirx.Select(run.sees(n, p, t), product, T.float32(MASKED)) if is_masked else product

    @T.macro
    def score(P, state, scores, run, n, h):
        for p in T.serial(num_pages):
            for part, few in T.grid(group // together, PAGE_SIZE // num_keys):
                multiply(P, state, scores, run, n, h, p, part * together, few * num_keys)
            for g in T.serial(group):
                for t in T.vectorized(PAGE_SIZE):
                    scores[g, p * PAGE_SIZE + t] = masked(run, n, p, t, scores[g, p * PAGE_SIZE + t])

    return score


def _multiply_macro(heads: Heads, together: int, num_keys: int) -> Any:
    """The macro `multiply(P, state, scores, run, n, h, p, first_head, first_key)`: the scores of some keys of
    page p and of some query heads of the nth row.
    """
    group, step = heads.group, lanes(heads.dim)

    @T.macro
    def add(P, state, acc, page, n, h, head, key, i):
        for t in T.unroll(num_keys):
            for g in T.unroll(together):
                for lane in T.vectorized(step):
                    acc[g, t, lane] = acc[g, t, lane] + state.queries[n, head + g, i * step + lane] * T.Cast(
                        "float32", P[page, 0, h, (key + t) * heads.dim + i * step + lane]
                    )

    @T.macro
    def multiply(P, state, scores, run, n, h, p, first_head, first_key):
        with T.sblock("scores"):
            T.reads()
            T.writes()
            acc = local((together, num_keys, step))
            for g in T.unroll(together):
                for t in T.unroll(num_keys):
                    for lane in T.vectorized(step):
                        acc[g, t, lane] = T.float32(0)
            for i in T.serial(heads.dim // step):
                add(P, state, acc, run.page[n, p], n, h, h * group + first_head, first_key, i)
            for g in T.unroll(together):
                for t in T.unroll(num_keys):
                    scores[first_head + g, p * PAGE_SIZE + first_key + t] = horizontal_sum(
                        acc[g, t, vector(0, step)], step
                    )

    return multiply
