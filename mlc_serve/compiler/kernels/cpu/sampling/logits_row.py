"""Passes over one row of logits that lies in a core's cache: its extremes, its weights, and what those weigh
that reach a threshold. Macros that the kernels of `sampling` are made of.

A row is taken a block at a time: blocks whose greatest logit stays below a threshold are passed over, and
sums are float32 within a block and float64 beyond it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.local import local
from mlc_serve.quantization.packing import LANES

BLOCK = 256
THRESHOLDS = 3  # of one pass: they cut a bracket into quarters
_LARGEST_FINITE = 3.4028234663852886e38
_INFINITY_BITS = 0x7F800000


class Row(NamedTuple):
    """One row of `logits` `(n, vocab)` and what is found out about it.

    `weights` `(vocab,)` are exp of temperature-scaled distances to the peak, or all 1; `maxima` float32 and
    `sums` float64 hold the greatest logit and the weight of each block. `extremes` is the greatest logit, NaN
    if any is no number, and the least finite one.
    """

    logits: T.Buffer
    index: Any
    vocab: Any
    weights: T.Buffer
    maxima: T.Buffer
    sums: T.Buffer
    extremes: T.Buffer


class Tally(NamedTuple):
    """What all tokens weigh whose logits reach each of THRESHOLDS `thresholds`, which ascend."""

    thresholds: T.Buffer
    masses: T.Buffer


def num_blocks(vocab: Any) -> Any:
    """Blocks of a row; the last may be shorter."""
    return (vocab + BLOCK - 1) // BLOCK


def block_length(vocab: Any, block: Any) -> Any:
    """Logits of a block."""
    return T.min(BLOCK, vocab - block * BLOCK)


@T.macro
def _extremes_of(row, start, width, high, low, bits):
    for lane in T.vectorized(width):
        high[lane] = T.max(high[lane], row.logits[row.index, start + lane])
    for lane in T.vectorized(width):
        low[lane] = T.min(
            low[lane],
            T.Select(
                row.logits[row.index, start + lane] >= T.float32(-_LARGEST_FINITE),
                row.logits[row.index, start + lane],
                T.float32(_LARGEST_FINITE),
            ),
        )
    for lane in T.vectorized(width):
        bits[lane] = T.max(
            bits[lane],
            T.bitwise_and(T.reinterpret("int32", row.logits[row.index, start + lane]), T.int32(0x7FFFFFFF)),
        )


@T.macro
def find_extremes(row):
    """Fill `maxima` and `extremes`."""
    with T.sblock("extremes"):
        T.reads()
        T.writes()
        high = local((LANES,))
        low = local((LANES,))
        bits = local((LANES,), "int32")
        for lane in T.vectorized(LANES):
            low[lane] = T.float32(_LARGEST_FINITE)
            bits[lane] = 0
        row.extremes[0] = T.float32("-inf")
        for block in T.serial(num_blocks(row.vocab)):
            for lane in T.vectorized(LANES):
                high[lane] = T.float32("-inf")
            for i in T.serial(block_length(row.vocab, block) // LANES):
                _extremes_of(row, block * BLOCK + i * LANES, LANES, high, low, bits)
            for i in T.serial(block_length(row.vocab, block) % LANES):
                _extremes_of(
                    row,
                    block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                    1,
                    high,
                    low,
                    bits,
                )
            row.maxima[block] = high[0]
            for lane in T.unroll(LANES - 1):
                row.maxima[block] = T.max(row.maxima[block], high[lane + 1])
            row.extremes[0] = T.max(row.extremes[0], row.maxima[block])
        row.extremes[1] = low[0]
        for lane in T.unroll(LANES):
            row.extremes[1] = T.min(row.extremes[1], low[lane])
            if bits[lane] > _INFINITY_BITS:
                row.extremes[0] = T.float32("nan")


@T.macro
def _weigh_some(row, start, width, scale, partial):
    with T.sblock("some"):
        T.reads()
        T.writes()
        exponent = local((LANES,))
        for lane in T.vectorized(width):
            exponent[lane] = (row.logits[row.index, start + lane] - row.extremes[0]) * scale
        for lane in T.vectorized(width):
            exponent[lane] = T.Select(exponent[lane] >= T.float32(-126), exp2(exponent[lane]), T.float32(0))
        for lane in T.vectorized(width):
            row.weights[start + lane] = exponent[lane]
        for lane in T.vectorized(width):
            partial[lane] = partial[lane] + exponent[lane]


@T.macro
def weigh(row, scale, total):
    """Fill `weights` with 2**((logit - peak) * scale), zero where float32 holds no such number, and `sums`;
    `total[0]` is all of them.
    """
    with T.sblock("weigh"):
        T.reads()
        T.writes()
        partial = local((LANES,))
        total[0] = T.float64(0)
        for block in T.serial(num_blocks(row.vocab)):
            for lane in T.vectorized(LANES):
                partial[lane] = T.float32(0)
            for i in T.serial(block_length(row.vocab, block) // LANES):
                _weigh_some(row, block * BLOCK + i * LANES, LANES, scale, partial)
            for i in T.serial(block_length(row.vocab, block) % LANES):
                _weigh_some(
                    row,
                    block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                    1,
                    scale,
                    partial,
                )
            row.sums[block] = T.float64(0)
            for lane in T.unroll(LANES):
                row.sums[block] = row.sums[block] + T.Cast("float64", partial[lane])
            total[0] = total[0] + row.sums[block]


@T.macro
def weigh_alike(row):
    """Fill `weights` with 1, so that a mass is a number of tokens."""
    for token in T.serial(row.vocab):
        row.weights[token] = T.float32(1)


@T.macro
def _survey_some(row, start, width, thresholds, partial):
    for j in T.unroll(THRESHOLDS):
        for lane in T.vectorized(width):
            partial[j, lane] = partial[j, lane] + T.Select(
                row.logits[row.index, start + lane] >= thresholds[j],
                row.weights[start + lane],
                T.float32(0),
            )


@T.macro
def survey(row, tally):
    """Fill a tally's masses (float64)."""
    with T.sblock("survey"):
        T.reads()
        T.writes()
        partial = local((THRESHOLDS, LANES))
        masses = local((THRESHOLDS, LANES), "float64")
        for j in T.unroll(THRESHOLDS):
            for lane in T.vectorized(LANES):
                masses[j, lane] = T.float64(0)
        for block in T.serial(num_blocks(row.vocab)):
            if row.maxima[block] >= tally.thresholds[0]:
                for j in T.unroll(THRESHOLDS):
                    for lane in T.vectorized(LANES):
                        partial[j, lane] = T.float32(0)
                for i in T.serial(block_length(row.vocab, block) // LANES):
                    _survey_some(row, block * BLOCK + i * LANES, LANES, tally.thresholds, partial)
                for i in T.serial(block_length(row.vocab, block) % LANES):
                    _survey_some(
                        row,
                        block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                        1,
                        tally.thresholds,
                        partial,
                    )
                for j in T.unroll(THRESHOLDS):
                    for lane in T.vectorized(LANES):
                        masses[j, lane] = masses[j, lane] + T.Cast("float64", partial[j, lane])
        for j in T.unroll(THRESHOLDS):
            tally.masses[j] = T.float64(0)
            for lane in T.unroll(LANES):
                tally.masses[j] = tally.masses[j] + masses[j, lane]
