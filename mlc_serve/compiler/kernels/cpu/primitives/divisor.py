"""How many of a number of things are done at a time, without a rest."""

from __future__ import annotations


def greatest_divisor(extent: int, limit: int) -> int:
    """The greatest divisor of `extent` that is at most `limit`, or 1."""
    return max(n for n in range(1, extent + 1) if extent % n == 0 and n <= max(1, limit))
