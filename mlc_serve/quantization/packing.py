"""How a weight matrix is laid out for the kernel that reads it. A library's metadata names the layout of each
weight.

All layouts but `plain` are tiles of 16 output columns, which are rows of a checkpoint's `(N, K)` weight. `T`
is the number of tiles, `Kp` is `K` in whole groups, and a position `lane` in a tile is a column:

    tiles16         (T, K, 16)             [t, k, lane]          floating-point numbers
    tiles16-pairs   (T, ceil(K / 2), 32)   [t, i, 2 lane + j]    weight 2 i + j of a column: bfloat16
    tiles16-u8      (T, Kp / 4, 64)        [t, i, 4 lane + j]    integer 4 i + j of a column
    tiles16-u4      (T, Kp / 8, 64)        [t, i, 4 lane + j]    integers 8 i + j (low), 8 i + 4 + j (high),
                                                                 also those that need only 3 bits
    tiles16-scale   (T, Kp / group, 16)    [t, g, lane]          scales of groups

With `-paired` after its name, tiles of the first half of the rows alternate with those of the second half.
With `-expertsN` at the end, the weight consists of N matrices, one below the other, that are laid out one
after another. Each, or with `-paired` each half of it, is filled up to whole tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mlc_serve.errors import CompileError
from mlc_serve.quantization.scheme import GroupFormat

Array = npt.NDArray[np.generic]
LANES = 16  # output columns of a tile: the float32 values of a 512-bit register
_PAIRED = "-paired"
_EXPERTS = "-experts"


def num_tiles(num_columns: int) -> int:
    """The number of tiles that hold `num_columns` columns."""
    return -(-num_columns // LANES)


def tiles16_shape(num_columns: int, depth: int) -> list[int]:
    """The shape of a `(N, K)` weight in the layout "tiles16"."""
    return [num_tiles(num_columns), depth, LANES]


def tiles16_pairs_shape(num_columns: int, depth: int) -> list[int]:
    """The shape of a `(N, K)` weight in the layout "tiles16-pairs"."""
    return [num_tiles(num_columns), -(-depth // 2), 2 * LANES]


def tiles16_integers_shape(num_columns: int, depth: int, groups: GroupFormat) -> list[int]:
    """The shape of the integers of a `(N, K)` weight in the layout "tiles16-u8" or "tiles16-u4"."""
    return [num_tiles(num_columns), groups.padded(depth) * groups.bits // 32, 4 * LANES]


def tiles16_scale_shape(num_columns: int, depth: int, groups: GroupFormat) -> list[int]:
    """The shape of the scales of a `(N, K)` weight in the layout "tiles16-scale"."""
    return [num_tiles(num_columns), groups.count(depth), LANES]


def pack(weight: Array, layout: str, padding: int = 0) -> Array:
    """Lay out one weight: `(N, K)` floating-point numbers, `(N, Kp)` integers, or `(N, Kp / group_size)`
    scales. The last tile is filled up with `padding`.

    Raises CompileError for a layout that the library names and this version does not know, and for halves
    that are not whole tiles.
    """
    if layout == "plain":
        return weight
    per_matrix, _, num_experts = layout.partition(_EXPERTS)
    arrange = _TILES.get(per_matrix.removesuffix(_PAIRED))
    if arrange is None:
        raise CompileError(
            f"the library takes weights in the layout {layout!r}, which this version does not know"
        )
    halves = 2 if per_matrix.endswith(_PAIRED) else 1
    if halves == 2 and not num_experts and len(weight) % (2 * LANES):
        raise CompileError(f"the layout {layout!r} takes halves of whole tiles, not {len(weight)} columns")
    return arrange(_tiles(weight.reshape(int(num_experts or 1), halves, -1, weight.shape[1]), padding))


def expert_columns(num_columns: int, halves: int) -> int:
    """How many columns each expert of a layout with `-experts` has, once its halves are whole tiles."""
    return halves * num_tiles(num_columns // halves) * LANES


def _tiles(weight: Array, padding: int) -> Array:
    """Matrices in halves or whole, `(E, halves, N, depth)` -> the rows by tiles, `(T, 16, depth)`; the tiles
    of two halves in turn.
    """
    num_experts, halves, num_rows, depth = weight.shape
    missing = -num_rows % LANES
    if missing:
        weight = np.pad(weight, ((0, 0), (0, 0), (0, missing), (0, 0)), constant_values=padding)
    by_tile = weight.reshape(num_experts, halves, -1, LANES, depth).transpose(0, 2, 1, 3, 4)
    tiles: Array = by_tile.reshape(-1, LANES, depth)
    return tiles


def _by_depth(tiles: Array) -> Array:
    return np.ascontiguousarray(tiles.transpose(0, 2, 1))


def _pairs(tiles: Array) -> Array:
    if tiles.shape[2] % 2:
        tiles = np.concatenate([tiles, np.zeros_like(tiles[:, :, :1])], axis=2)
    words = np.ascontiguousarray(tiles).view(np.uint32)  # two bfloat16 each, moved as one
    return _by_depth(words).view(tiles.dtype)


def _bytes(tiles: Array) -> Array:
    words = np.ascontiguousarray(tiles).view(np.uint32)  # four integers each
    return _by_depth(words).view(np.uint8)


def _nibbles(tiles: Array) -> Array:
    words = np.ascontiguousarray(tiles).view(np.uint32)
    return _by_depth(words[:, :, 0::2] | words[:, :, 1::2] << 4).view(np.uint8)


_TILES: dict[str, Callable[[Array], Array]] = {
    "tiles16": _by_depth,
    "tiles16-pairs": _pairs,
    "tiles16-u8": _bytes,
    "tiles16-u4": _nibbles,
    "tiles16-scale": _by_depth,
}
