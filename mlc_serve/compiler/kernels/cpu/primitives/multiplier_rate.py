"""Measures how fast this processor multiplies: a feature flag says what it can do, not how fast.

AVX512-BF16 has instructions that add up pairs of products of bfloat16. With them, AMD's processors finish
twice as many products as in float32, and some of Intel's half as many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T
from tvm.target import Target

from mlc_serve.compiler.kernels.cpu.primitives.multiplier import (
    Bfloat16Multiplier,
    FloatMultiplier,
    Multiplier,
)
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector
from mlc_serve.compiler.pipeline import lowering
from mlc_serve.quantization.packing import LANES

# Independent sums, so that no product waits for another. They and their factors fit into 32 registers.
_SUMS = 12
_STEPS = 20_000  # of each sum: some 0.1 ms
_RUNS = 15  # the fastest one counts, because other processes have disturbed it least
# A smaller gain is not worth bfloat16's rounding.
_WORTHWHILE = 1.25


@lru_cache
def pairs_pay(mcpu: str) -> bool:
    """Whether products of pairs of bfloat16 are worthwhile on this machine, whose CPU LLVM calls `mcpu`.

    Takes half a second to compile two loops, and some milliseconds to measure them.
    """
    target = Target({"kind": "llvm", "mcpu": mcpu})
    pairs, singles = _loop(Bfloat16Multiplier(), target), _loop(FloatMultiplier(), target)
    durations = [(pairs(), singles()) for _ in range(_RUNS)]
    of_pairs, of_singles = (min(column) for column in zip(*durations, strict=True))
    return bool(of_pairs * _WORTHWHILE < of_singles * Bfloat16Multiplier.per_word)


def _loop(multiplier: Multiplier, target: Target) -> Callable[[], float]:
    """A function that multiplies and adds for a while, and returns the seconds that it took."""
    chains = _compiled(multiplier, target)
    words = tvm.runtime.tensor(np.zeros((_SUMS, LANES), multiplier.word))
    totals = tvm.runtime.tensor(np.zeros((_SUMS, LANES), np.float32))

    def seconds() -> float:
        started = time.perf_counter()
        chains(words, totals)
        return time.perf_counter() - started

    return seconds


def _compiled(multiplier: Multiplier, target: Target) -> Callable[..., None]:
    """`_chains` as a function of tensors."""
    module = tvm.IRModule({"chains": _chains(multiplier).with_attr("global_symbol", "chains")})
    with lowering(target):
        chains: Callable[..., None] = tvm.compile(module, target=target)["chains"]
    return chains


def _chains(multiplier: Multiplier) -> tirx.PrimFunc:
    """W `(sums, 16)` words -> Y `(sums, 16)` float32: sums of products of the rows of W with its words."""

    @T.macro
    def step(W, totals, i):
        for s in T.unroll(_SUMS):
            totals[s, vector(0)] = multiplier.multiply_add(
                totals[s, vector(0)], W[s, vector(0)], W[0, T.bitwise_and(i, LANES - 1)]
            )

    @T.prim_func(s_tir=True)
    def chains(w: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        W = T.match_buffer(w, (_SUMS, LANES), multiplier.word)
        Y = T.match_buffer(y, (_SUMS, LANES), "float32")
        with T.sblock("root"):
            T.reads()
            T.writes()
            T.attr(T.int32(0), "pragma_import_llvm", multiplier.definitions)
            totals = local((_SUMS, LANES))
            for s in T.unroll(_SUMS):
                totals[s, vector(0)] = broadcast(T.float32(0))
            for i in T.serial(_STEPS):
                step(W, totals, i)
            for s in T.unroll(_SUMS):
                Y[s, vector(0)] = totals[s, vector(0)]

    return chains
