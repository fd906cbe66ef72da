"""The random numbers that decide draws. They are counter-based: a number depends only on a seed and an index,
and no state is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_SPARE_BITS = np.uint64(12)


def uniforms(seeds: Sequence[int], indices: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return a number in (0, 1) for each pair of a seed below 2**64 and an index.

    This is SplitMix64 (Steele, Lea and Flood, 2014). It starts from the mixed seed, so that neighbouring
    seeds give unrelated numbers. The number is (52 random bits + 1/2) / 2**52, so it is never 0 or 1.
    """
    start = _mix(np.array(seeds, np.uint64) + _GOLDEN)
    words = _mix(start + _GOLDEN * np.array(indices, np.uint64))
    numbers: npt.NDArray[np.float64] = ((words >> _SPARE_BITS).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


def _mix(words: Words) -> Words:
    """Apply the finalizer of SplitMix64 (Stafford's "variant 13").

    It is a bijection in which flipping one bit flips half of the output bits on average.
    """
    words = (words ^ (words >> _SHIFTS[0])) * _MULTIPLIERS[0]
    words = (words ^ (words >> _SHIFTS[1])) * _MULTIPLIERS[1]
    mixed: Words = words ^ (words >> _SHIFTS[2])
    return mixed
