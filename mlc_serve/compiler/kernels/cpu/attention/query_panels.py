"""Tiles of queries over blocks of keys: what both prefill kernels are made of.

The lanes of a vector are queries: the query heads that share a KV head, token after token. Softmax then needs
no sum across a register, and keys and values are broadcast from memory. A task has TILES tiles; a block of
BLOCK keys is converted to words of `Products` once for all of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.page_run import MASKED
from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.lanes import LANES, lanes
from mlc_serve.compiler.kernels.cpu.primitives.local import local
from mlc_serve.compiler.kernels.cpu.primitives.multiplier import Products, products_for

TILES = 3
BLOCK = 64
_MANY_SUMS = 16  # are enough for two vectors of queries


class Tiles(NamedTuple):
    """How tiles are multiplied: `vectors` of queries by `step` keys or dimensions, a power of two, have their
    sums in registers.
    """

    products: Products
    vectors: int
    step: int

    @property
    def queries(self) -> int:
        """Of a tile."""
        return self.vectors * LANES


def tiles_for(dtype: str, unit: FloatUnit) -> Tiles:
    """Those that suit a CPU, for keys and values of that type."""
    vectors = 2 if unit.sums >= _MANY_SUMS else 1
    return Tiles(products_for(dtype, unit), vectors, 1 << (unit.sums // vectors).bit_length() - 1)


class TileState(NamedTuple):
    """Buffers of one task. Words are those of `Products`."""

    queries: Any  # (tiles, d / pair, queries) words
    output: Any  # (tiles, d, queries), not yet divided by `weight`
    limit: Any  # (tiles, queries): keys from here on are masked
    start: Any  # (tiles, queries): keys before here are, but for sinks
    peak: Any  # (tiles, queries) the greatest score so far
    weight: Any  # (tiles, queries) the sum of 2^(score - peak) so far
    keys: Any  # (block * d / pair) words, in an order of the kernel's choice
    values: Any  # (block / pair, d) words
    scores: Any  # (block, queries)
    weights: Any  # (block / pair, queries) words of 2^(score - peak)


class Place(NamedTuple):
    """A task's queries: the first row and the number of rows of its sequence, which of the sequence's tasks
    it is, and its KV head.
    """

    first: Any
    num_rows: Any
    task: Any
    head: Any


def vector(first: Any, count: int = LANES) -> Any:
    """The indices of `count` neighbours; of one, an index."""
    return T.Ramp(first, 1, count) if count > 1 else first


def widened(values: Any, count: int) -> Any:
    """`count` values as float32."""
    return T.Cast(f"float32x{count}" if count > 1 else "float32", values)


def row_words(products: Products, values: Any, count: int) -> Any:
    """A float32 vector of neighbours as `count` words."""
    if products.pair == 1:
        return values
    parts = [[tirx.const(2 * i + j, "int32") for i in range(count)] for j in range(2)]
    return products.pack([tirx.Shuffle([values], part) for part in parts], count)


def load_queries(group: int, head_dim: int, tiles: Tiles) -> Any:
    """The macro that begins tile r of a task."""
    products = tiles.products
    num_words = head_dim // products.pair
    step = lanes(num_words)

    @T.macro
    def begin_lane(Q, state, place, r, lane, scale):
        words = local((num_words,), products.word)
        index = T.meta_var((place.task * TILES + r) * tiles.queries + lane)
        row = T.meta_var(place.first + T.min(index // group, place.num_rows - 1))
        for i in T.unroll(num_words // step):
            words[vector(i * step, step)] = row_words(
                products,
                widened(
                    Q[
                        row,
                        place.head * group + index % group,
                        vector(i * step * products.pair, step * products.pair),
                    ],
                    step * products.pair,
                )
                * scale,
                step,
            )
        for i in T.unroll(num_words):
            state.queries[r, i, lane] = words[i]

    @T.macro
    def begin(Q, state, place, r, span, scale):
        for lane in T.serial(tiles.queries):
            row = T.meta_var(
                T.min(((place.task * TILES + r) * tiles.queries + lane) // group, place.num_rows - 1)
            )
            state.limit[r, lane] = span.limit(row)
            state.start[r, lane] = span.start(row)
            begin_lane(Q, state, place, r, lane, scale)
        for v in T.unroll(tiles.vectors):
            state.peak[r, vector(v * LANES)] = T.broadcast(T.float32(MASKED), LANES)
            state.weight[r, vector(v * LANES)] = T.broadcast(T.float32(1), LANES)
        for i in T.serial(head_dim):
            for v in T.unroll(tiles.vectors):
                state.output[r, i, vector(v * LANES)] = T.broadcast(T.float32(0), LANES)

    return begin


def score_block(num_words: int, key_strides: tuple[int, int], tiles: Tiles) -> Any:
    """The macro for the scores of `count` keys, a multiple of the step; word i of key t lies at the sum of
    their strides.
    """
    products, vectors, step = tiles

    @T.macro
    def score(state, r, count):
        for k in T.serial(count // step):
            acc = local((step, vectors, LANES))
            for t in T.unroll(step):
                for v in T.unroll(vectors):
                    acc[t, v, vector(0)] = T.broadcast(T.float32(0), LANES)
            for i in T.serial(num_words):
                for t in T.unroll(step):
                    for v in T.unroll(vectors):
                        acc[t, v, vector(0)] = products.multiply_add(
                            acc[t, v, vector(0)],
                            state.queries[r, i, vector(v * LANES)],
                            state.keys[(k * step + t) * key_strides[0] + i * key_strides[1]],
                        )
            for t in T.unroll(step):
                for v in T.unroll(vectors):
                    state.scores[k * step + t, vector(v * LANES)] = acc[t, v, vector(0)]

    return score


def soften_block(tiles: Tiles) -> Any:
    """The macro that masks scores, and the one that turns them into weights and gives in `factor` what scales
    the past.
    """
    products, vectors, step = tiles
    pair = products.pair

    def packed(found: Any) -> Any:
        return products.pack([found[j, vector(0)] for j in range(pair)], LANES)

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

    @T.macro
    def soften_keys(state, t, v, top, total):
        found = local((pair, LANES))
        for j in T.unroll(pair):
            found[j, vector(0)] = exp2(state.scores[t * pair + j, vector(v * LANES)] - top[vector(0)], LANES)
        for j in T.unroll(pair):
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
                for j in T.unroll(step // pair):
                    soften_keys(state, t * (step // pair) + j, v, top, total)
            state.weight[r, vector(v * LANES)] = total[vector(0)]

    return mask, soften


def add_block(head_dim: int, tiles: Tiles) -> Any:
    """The macro that scales a tile's output by `factor` and adds the values of `count` keys."""
    products, vectors = tiles.products, tiles.vectors
    step = math.gcd(head_dim, tiles.step)

    @T.macro
    def add(state, r, count, factor):
        for o in T.serial(head_dim // step):
            acc = local((step, vectors, LANES))
            for j in T.unroll(step):
                for v in T.unroll(vectors):
                    acc[j, v, vector(0)] = (
                        state.output[r, o * step + j, vector(v * LANES)] * factor[v, vector(0)]
                    )
            for t in T.serial(count // products.pair):
                for j in T.unroll(step):
                    for v in T.unroll(vectors):
                        acc[j, v, vector(0)] = products.multiply_add(
                            acc[j, v, vector(0)],
                            state.weights[t, vector(v * LANES)],
                            state.values[t, o * step + j],
                        )
            for j in T.unroll(step):
                for v in T.unroll(vectors):
                    state.output[r, o * step + j, vector(v * LANES)] = acc[j, v, vector(0)]

    return add


def store_output(group: int, head_dim: int, dtype: str, tiles: Tiles) -> Any:
    """The macro that ends tile r of a task."""
    step = lanes(head_dim)

    @T.macro
    def finish_lane(out, lse, state, place, r, lane):
        values = local((head_dim,))
        index = T.meta_var((place.task * TILES + r) * tiles.queries + lane)
        row = T.meta_var(place.first + index // group)
        head = T.meta_var(place.head * group + index % group)
        for i in T.unroll(head_dim):
            values[i] = state.output[r, i, lane]
        for i in T.unroll(head_dim // step):
            for j in T.vectorized(step):
                out[row, head, i * step + j] = T.Cast(dtype, values[i * step + j] / state.weight[r, lane])
        lse[row, head] = T.log2(state.weight[r, lane]) + state.peak[r, lane]

    @T.macro
    def finish(out, lse, state, place, r):
        first = T.meta_var((place.task * TILES + r) * tiles.queries)
        for lane in T.serial(T.min(tiles.queries, place.num_rows * group - first)):
            finish_lane(out, lse, state, place, r, lane)

    return finish
