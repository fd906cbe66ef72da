"""How wide a vector loop may be: kernels work on whole vectors, whatever the dimension."""

from __future__ import annotations

LANES = 16  # float32 values in a 512-bit register; LLVM splits the vector where registers are narrower


def lanes(extent: int) -> int:
    """The widest power of two, up to LANES, that divides `extent`."""
    width = LANES
    while extent % width:
        width //= 2
    return width
