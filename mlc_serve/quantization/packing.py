"""How a weight matrix is laid out for the kernel that reads it. A layout's name travels in the library's
metadata.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mlc_serve.errors import CompileError

Array = npt.NDArray[np.generic]
TILE = 16  # output columns of a tile


def tiles16_shape(num_columns: int, depth: int) -> list[int]:
    """The shape that `pack_tiles16` gives a `(N, K)` weight."""
    return [-(-num_columns // TILE), depth, TILE]


def pack_tiles16(weight: Array) -> Array:
    """`(N, K)` -> `(ceil(N / 16), K, 16)`, zero where the last tile has no column."""
    num_columns, depth = weight.shape
    num_tiles = -(-num_columns // TILE)
    packed = np.zeros((num_tiles, depth, TILE), weight.dtype)
    whole = num_columns // TILE
    packed[:whole] = weight[: whole * TILE].reshape(whole, TILE, depth).transpose(0, 2, 1)
    if whole < num_tiles:
        packed[whole, :, : num_columns - whole * TILE] = weight[whole * TILE :].T
    return packed


def as_it_is(weight: Array) -> Array:
    """Row-major, as checkpoints have it."""
    return weight


LAYOUTS: dict[str, Callable[[Array], Array]] = {"plain": as_it_is, "tiles16": pack_tiles16}


def pack(weight: Array, layout: str) -> Array:
    """Lay out one weight. Raises CompileError for a layout that the library names and this version does not
    know.
    """
    if layout not in LAYOUTS:
        raise CompileError(
            f"the library wants weights in the layout {layout!r}, which this version does not know"
        )
    return LAYOUTS[layout](weight)
