"""Passes over one row of logits, which stays in a core's cache: they find its extremes, its weights, and the
weight of all logits that reach a threshold. The kernels for sampling are made of these macros.

A pass takes a chunk of logits at a time. It skips chunks whose greatest logit stays below the threshold, and
sums are float32 within a chunk and float64 beyond it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.quantization.packing import LANES

CHUNK = 256
THRESHOLDS = 3  # of one pass, which cut a bracket into quarters
_LARGEST_FINITE = 3.4028234663852886e38
_INFINITY_BITS = 0x7F800000


class Row(NamedTuple):
    """One row of `logits` `(n, vocab)` and what is found out about it.

    `weights` `(vocab,)` are exp of temperature-scaled distances to the peak, or all 1. `maxima` (float32) and
    `sums` (float64) hold the greatest logit and the weight of each chunk. `extremes` are the greatest logit,
    NaN if any logit is NaN, and the least finite logit.
    """

    logits: T.Buffer
    index: Any
    vocab: Any
    weights: T.Buffer
    maxima: T.Buffer
    sums: T.Buffer
    extremes: T.Buffer


class Tally(NamedTuple):
    """For each of THRESHOLDS ascending `thresholds`, the weight of all tokens whose logits reach it."""

    thresholds: T.Buffer
    masses: T.Buffer


def num_chunks(vocab: Any) -> Any:
    """How many chunks a row has; the last may be shorter."""
    return (vocab + CHUNK - 1) // CHUNK


def chunk_length(vocab: Any, chunk: Any) -> Any:
    """How many logits a chunk has."""
    return T.min(CHUNK, vocab - chunk * CHUNK)


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
        for chunk in T.serial(num_chunks(row.vocab)):
            for lane in T.vectorized(LANES):
                high[lane] = T.float32("-inf")
            for i in T.serial(chunk_length(row.vocab, chunk) // LANES):
                _extremes_of(row, chunk * CHUNK + i * LANES, LANES, high, low, bits)
            for i in T.serial(chunk_length(row.vocab, chunk) % LANES):
                _extremes_of(
                    row,
                    chunk * CHUNK + chunk_length(row.vocab, chunk) // LANES * LANES + i,
                    1,
                    high,
                    low,
                    bits,
                )
            row.maxima[chunk] = high[0]
            for lane in T.unroll(LANES - 1):
                row.maxima[chunk] = T.max(row.maxima[chunk], high[lane + 1])
            row.extremes[0] = T.max(row.extremes[0], row.maxima[chunk])
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
    """Fill `weights` with 2**((logit - peak) * scale), or zero where that is too small for float32, `sums`,
    and `total[0]` with the sum of all.
    """
    with T.sblock("weigh"):
        T.reads()
        T.writes()
        partial = local((LANES,))
        total[0] = T.float64(0)
        for chunk in T.serial(num_chunks(row.vocab)):
            for lane in T.vectorized(LANES):
                partial[lane] = T.float32(0)
            for i in T.serial(chunk_length(row.vocab, chunk) // LANES):
                _weigh_some(row, chunk * CHUNK + i * LANES, LANES, scale, partial)
            for i in T.serial(chunk_length(row.vocab, chunk) % LANES):
                _weigh_some(
                    row,
                    chunk * CHUNK + chunk_length(row.vocab, chunk) // LANES * LANES + i,
                    1,
                    scale,
                    partial,
                )
            row.sums[chunk] = T.float64(0)
            for lane in T.unroll(LANES):
                row.sums[chunk] = row.sums[chunk] + T.Cast("float64", partial[lane])
            total[0] = total[0] + row.sums[chunk]


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
    """Fill the masses (float64) of a tally."""
    with T.sblock("survey"):
        T.reads()
        T.writes()
        partial = local((THRESHOLDS, LANES))
        masses = local((THRESHOLDS, LANES), "float64")
        for j in T.unroll(THRESHOLDS):
            for lane in T.vectorized(LANES):
                masses[j, lane] = T.float64(0)
        for chunk in T.serial(num_chunks(row.vocab)):
            if row.maxima[chunk] >= tally.thresholds[0]:
                for j in T.unroll(THRESHOLDS):
                    for lane in T.vectorized(LANES):
                        partial[j, lane] = T.float32(0)
                for i in T.serial(chunk_length(row.vocab, chunk) // LANES):
                    _survey_some(row, chunk * CHUNK + i * LANES, LANES, tally.thresholds, partial)
                for i in T.serial(chunk_length(row.vocab, chunk) % LANES):
                    _survey_some(
                        row,
                        chunk * CHUNK + chunk_length(row.vocab, chunk) // LANES * LANES + i,
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
