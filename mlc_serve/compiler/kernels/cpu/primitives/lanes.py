"""How wide a vector may be: kernels work on whole vectors, whatever the dimension."""

from __future__ import annotations

from mlc_serve.quantization.packing import LANES


def lanes(extent: int) -> int:
    """The widest power of two, up to LANES, that divides `extent`."""
    width = LANES
    while extent % width:
        width //= 2
    return width
