"""The random numbers that decide draws. Counter-based: a number follows from seed and index, and no state is
kept.
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
    """The number in (0, 1) of each pair of a seed below 2**64 and an index.

    SplitMix64 (Steele, Lea and Flood, 2014), started where its own mixing function puts the seed, so that
    neighbouring seeds are far apart. 52 bits and a half: never 0, never 1.
    """
    start = _mix(np.array(seeds, np.uint64) + _GOLDEN)
    words = _mix(start + _GOLDEN * np.array(indices, np.uint64))
    numbers: npt.NDArray[np.float64] = ((words >> _SPARE_BITS).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


def _mix(words: Words) -> Words:
    """The finalizer of SplitMix64 ("variant 13" of Stafford's), a bijection in which each bit turns half of
    the others.
    """
    words = (words ^ (words >> _SHIFTS[0])) * _MULTIPLIERS[0]
    words = (words ^ (words >> _SHIFTS[1])) * _MULTIPLIERS[1]
    mixed: Words = words ^ (words >> _SHIFTS[2])
    return mixed
