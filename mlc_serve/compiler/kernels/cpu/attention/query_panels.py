"""Panels of queries over blocks of keys: what both prefill kernels are made of.

A panel is one or two vectors whose lanes are queries: the query heads that share a KV head, token after
token. Softmax then needs no sum across a register, and keys and values are broadcast from memory. A task has
PANELS panels, and a block of BLOCK keys is converted to words of `Multiplier` once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED, Scores
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import Multiplier, multiplier_for
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector, widened
from mlc_serve.quantization.packing import LANES

PANELS = 3  # of a task
BLOCK = 64  # keys
_MOST_UNROLLED = 256  # values of a head that are moved without a loop
_MANY_SUMS = 16  # vectors of sums in registers: enough for two vectors of queries


class Panels(NamedTuple):
    """How panels are multiplied. The sums of a panel's `vectors` vectors of queries by `step` keys or
    dimensions, a power of two, are in registers.
    """

    multiplier: Multiplier
    vectors: int
    step: int

    @property
    def queries(self) -> int:
        """Queries of a panel."""
        return self.vectors * LANES


def panels_for(dtype: str, unit: FloatUnit) -> Panels:
    """The panels that suit a CPU, for keys and values of that type."""
    vectors = 2 if unit.sums >= _MANY_SUMS else 1
    return Panels(multiplier_for(dtype, unit), vectors, 1 << (unit.sums // vectors).bit_length() - 1)


class TaskState(NamedTuple):
    """Buffers of one task. Words are those of `Multiplier`."""

    queries: Any  # (panels, d / per_word, queries) words
    output: Any  # (panels, dv, queries), not yet divided by `weight`
    limit: Any  # (panels, queries): keys from here on are masked
    start: Any  # (panels, queries): keys before here are masked
    peak: Any  # (panels, queries) the greatest score so far
    weight: Any  # (panels, queries) the sum of 2^(score - peak) so far
    keys: Any  # (block * d / per_word) words, in an order of the kernel's choice
    values: Any  # (block / per_word, dv) words
    scores: Any  # (block, queries)
    weights: Any  # (block / per_word, queries) words of 2^(score - peak)


class Task(NamedTuple):
    """Which queries a task computes."""

    first: Any  # the first row of its sequence
    num_rows: Any  # of its sequence
    number: Any  # among the tasks of its sequence
    head: Any  # its KV head


def row_words(multiplier: Multiplier, values: Any, count: int) -> Any:
    """A float32 vector of neighbours as `count` words."""
    if multiplier.per_word == 1:
        return values
    parts = [[tirx.const(2 * i + j, "int32") for i in range(count)] for j in range(2)]
    return multiplier.pack([tirx.Shuffle([values], part) for part in parts], count)


def load_macro(heads: Heads, factor: float, panels: Panels) -> Any:
    """The macro `load(Q, first_head, state, task, r, span)`: the queries of panel r of a task as words, and
    which keys they see. Queries are multiplied by `factor`. Those of query head h lie in head first_head + h.
    """
    group, multiplier = heads.group, panels.multiplier
    num_words = heads.dim // multiplier.per_word
    step = lanes(num_words)
    each_word = T.unroll if num_words <= _MOST_UNROLLED else T.serial

    @T.macro
    def load_lane(Q, first_head, state, task, r, lane):
        words = local((num_words,), multiplier.word)
        index = T.meta_var((task.number * PANELS + r) * panels.queries + lane)
        row = T.meta_var(task.first + T.min(index // group, task.num_rows - 1))
        for i in T.unroll(num_words // step):
            words[vector(i * step, step)] = row_words(
                multiplier,
                widened(
                    Q[
                        row,
                        first_head + task.head * group + index % group,
                        vector(i * step * multiplier.per_word, step * multiplier.per_word),
                    ],
                    step * multiplier.per_word,
                )
                * T.float32(factor),
                step,
            )
        for i in each_word(num_words):
            state.queries[r, i, lane] = words[i]

    @T.macro
    def load(Q, first_head, state, task, r, span):
        for lane in T.serial(panels.queries):
            row = T.meta_var(
                T.min(((task.number * PANELS + r) * panels.queries + lane) // group, task.num_rows - 1)
            )
            state.limit[r, lane] = span.limit(row)
            state.start[r, lane] = span.start(row)
            load_lane(Q, first_head, state, task, r, lane)

    return load


def begin_macro(value_dim: int, panels: Panels) -> Any:
    """The macro `begin(state, r)`: panel r of a task before it has met any key."""

    @T.macro
    def begin(state, r):
        for v in T.unroll(panels.vectors):
            state.peak[r, vector(v * LANES)] = broadcast(T.float32(MASKED))
            state.weight[r, vector(v * LANES)] = broadcast(T.float32(1))
        for i in T.serial(value_dim):
            for v in T.unroll(panels.vectors):
                state.output[r, i, vector(v * LANES)] = broadcast(T.float32(0))

    return begin


def begin_sinks_macro(group: int, sink_of: Callable[[Any, Any], Any], panels: Panels) -> Any:
    """The macro `begin_sinks(batch, state, task, r)`: panel r of a task begins with the sinks of its heads,
    whose scores in base 2 `sink_of(batch, head)` gives.
    """

    @T.macro
    def begin_sinks(batch, state, task, r):
        for lane in T.serial(panels.queries):
            index = T.meta_var((task.number * PANELS + r) * panels.queries + lane)
            state.peak[r, lane] = sink_of(batch, task.head * group + index % group)

    return begin_sinks


def score_macro(num_words: int, key_strides: tuple[int, int], panels: Panels) -> Any:
    """The macro `score(state, r, count)`: the scores of panel r and of the block's first `count` keys, a
    multiple of the step. Word i of key t lies at t * key_strides[0] + i * key_strides[1].
    """
    multiplier, vectors, step = panels

    @T.macro
    def score(state, r, count):
        for k in T.serial(count // step):
            acc = local((step, vectors, LANES))
            for t in T.unroll(step):
                for v in T.unroll(vectors):
                    acc[t, v, vector(0)] = broadcast(T.float32(0))
            for i in T.serial(num_words):
                for t in T.unroll(step):
                    for v in T.unroll(vectors):
                        acc[t, v, vector(0)] = multiplier.multiply_add(
                            acc[t, v, vector(0)],
                            state.queries[r, i, vector(v * LANES)],
                            state.keys[(k * step + t) * key_strides[0] + i * key_strides[1]],
                        )
            for t in T.unroll(step):
                for v in T.unroll(vectors):
                    state.scores[k * step + t, vector(v * LANES)] = acc[t, v, vector(0)]

    return score


def cap_macro(scores: Scores, panels: Panels) -> Any:
    """The macro `cap(state, r, count)`: products become capped scores."""
    vectors = panels.vectors

    @T.macro
    def cap(state, r, count):
        for t in T.serial(count):
            for v in T.serial(vectors):
                state.scores[t, vector(v * LANES)] = scores.capped(state.scores[t, vector(v * LANES)], LANES)

    return cap


def mask_macro(panels: Panels) -> Any:
    """The macro `mask(state, r, count, first_key, span)`: mask scores of keys that panel r does not see."""
    vectors = panels.vectors

    @T.macro
    def mask(state, r, count, first_key, span):
        for t in T.serial(count):
            for v in T.unroll(vectors):
                for lane in T.vectorized(LANES):
                    state.scores[t, v * LANES + lane] = T.Select(
                        span.sees(
                            first_key + t, state.start[r, v * LANES + lane], state.limit[r, v * LANES + lane]
                        ),
                        state.scores[t, v * LANES + lane],
                        T.float32(MASKED),
                    )

    return mask


def soften_macro(panels: Panels) -> Any:
    """The macro `soften(state, r, count, factor)`: turn scores into weights relative to the greatest score so
    far. The output of earlier blocks must be multiplied with `factor`.
    """
    multiplier, vectors, step = panels
    per_word = multiplier.per_word

    def packed(found: Any) -> Any:
        return multiplier.pack([found[j, vector(0)] for j in range(per_word)], LANES)

    @T.macro
    def soften_keys(state, t, v, top, total):
        found = local((per_word, LANES))
        for j in T.unroll(per_word):
            found[j, vector(0)] = exp2(
                state.scores[t * per_word + j, vector(v * LANES)] - top[vector(0)], LANES
            )
        for j in T.unroll(per_word):
            total[vector(0)] = total[vector(0)] + found[j, vector(0)]
        state.weights[t, vector(v * LANES)] = packed(found)

    @T.macro
    def soften(state, r, count, factor):
        for v in T.unroll(vectors):
            top = local((LANES,))
            total = local((LANES,))
            old = T.meta_var(state.peak[r, vector(v * LANES)])
            top[vector(0)] = old
            for t in T.serial(count // step):
                for j in T.unroll(step):
                    top[vector(0)] = T.max(top[vector(0)], state.scores[t * step + j, vector(v * LANES)])
            factor[v, vector(0)] = exp2(old - top[vector(0)], LANES)
            state.peak[r, vector(v * LANES)] = top[vector(0)]
            total[vector(0)] = state.weight[r, vector(v * LANES)] * factor[v, vector(0)]
            for t in T.serial(count // step):
                for j in T.unroll(step // per_word):
                    soften_keys(state, t * (step // per_word) + j, v, top, total)
            state.weight[r, vector(v * LANES)] = total[vector(0)]

    return soften


def add_macro(value_dim: int, panels: Panels) -> Any:
    """The macro `add(state, r, count, factor)`: scale panel r's output by `factor`, and add the values of
    `count` keys by their weights.
    """
    multiplier, vectors = panels.multiplier, panels.vectors
    step = math.gcd(value_dim, panels.step)

    @T.macro
    def add(state, r, count, factor):
        for o in T.serial(value_dim // step):
            acc = local((step, vectors, LANES))
            for j in T.unroll(step):
                for v in T.unroll(vectors):
                    acc[j, v, vector(0)] = (
                        state.output[r, o * step + j, vector(v * LANES)] * factor[v, vector(0)]
                    )
            for t in T.serial(count // multiplier.per_word):
                for j in T.unroll(step):
                    for v in T.unroll(vectors):
                        acc[j, v, vector(0)] = multiplier.multiply_add(
                            acc[j, v, vector(0)],
                            state.weights[t, vector(v * LANES)],
                            state.values[t, o * step + j],
                        )
            for j in T.unroll(step):
                for v in T.unroll(vectors):
                    state.output[r, o * step + j, vector(v * LANES)] = acc[j, v, vector(0)]

    return add


def finish_macro(group: int, value_dim: int, dtype: str, panels: Panels) -> Any:
    """The macro `finish(out, state, task, r)`: write the output of panel r, divided by its weight."""
    step = lanes(value_dim)
    each_value = T.unroll if value_dim <= _MOST_UNROLLED else T.serial

    @T.macro
    def finish_lane(out, state, task, r, lane):
        values = local((value_dim,))
        index = T.meta_var((task.number * PANELS + r) * panels.queries + lane)
        row = T.meta_var(task.first + index // group)
        head = T.meta_var(task.head * group + index % group)
        for i in each_value(value_dim):
            values[i] = state.output[r, i, lane]
        for i in T.unroll(value_dim // step):
            for j in T.vectorized(step):
                out[row, head, i * step + j] = T.Cast(dtype, values[i * step + j] / state.weight[r, lane])

    @T.macro
    def finish(out, state, task, r):
        first = T.meta_var((task.number * PANELS + r) * panels.queries)
        for lane in T.serial(T.min(panels.queries, task.num_rows * group - first)):
            finish_lane(out, state, task, r, lane)

    return finish
