"""Weights as other programs pack them: small integers with zero points and scales, in groups of their own.

`repacked` brings them into one of our formats. It rounds nothing that the format can hold as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.quantization.groups import Quantized, quantize
from mlc_serve.quantization.scheme import GroupFormat

_PIECE = 1 << 18  # weights that are repacked at a time: so many fit into the processor's cache
_LARGEST_FACTOR = 128  # times an integer of eight bits, this fits into 16 bits


@dataclass(frozen=True)
class PackedWeight:
    """A weight `(N, K)` that is `(integers - zero) * scale`.

    `integers` is uint8 `(N, K)`, and `zero` and `scale` are `(N, G)` for groups of `group_size` weights that
    follow one another in a row. The last group may be partly filled. A tensor that is stored in other axes
    has all three arrays in these axes, until `moved` makes them rows.
    """

    integers: NDArray[np.uint8]
    zero: NDArray[np.int16]
    scale: NDArray[Any]
    group_size: int

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> PackedWeight:
        """All three arrays after the same change."""
        return PackedWeight(change(self.integers), change(self.zero), change(self.scale), self.group_size)

    def moved(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> PackedWeight | None:
        """The weight whose arrays have been moved to rows; None if this does more than move whole rows."""
        result = self.each(move)
        if result.integers.dtype != self.integers.dtype or result.integers.ndim != 2:
            return None
        num_rows, depth = result.integers.shape
        of_groups = (num_rows, -(-depth // self.group_size))
        return result if result.zero.shape == result.scale.shape == of_groups else None

    def rows(self, rows: slice) -> PackedWeight:
        """Some of the rows."""
        return self.each(lambda array: array[rows])

    def values(self) -> NDArray[np.int16]:
        """The integers less their zero points, `(N, K)`."""
        values: NDArray[np.int16] = self.integers - self._for_each_weight(self.zero)
        return values

    def floats(self) -> NDArray[np.float32]:
        """The weight, `(N, K)`. A product of an integer and a scale of 16 bits is exact."""
        weight = self.values().astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite scales remain visible
            weight *= self._for_each_weight(self.scale.astype(np.float32))
        return weight

    def _for_each_weight(self, of_groups: NDArray[Any]) -> NDArray[Any]:
        return of_groups.repeat(self.group_size, axis=1)[:, : self.integers.shape[1]]


def repacked(weight: PackedWeight, form: GroupFormat) -> Quantized:
    """The weight in another format. A group is rounded only if the format can't hold it: if its integers are
    too many, its scale has another type, or its scales differ by a factor that is not an integer.

    Raises ValueError as `quantize` does.
    """
    num_rows, depth = weight.integers.shape
    width = form.padded(depth)
    stored = np.empty((num_rows, width), np.uint8)
    scale = np.empty((num_rows, width // form.group_size), form.scale_dtype)
    step = max(_PIECE // width, 1)
    for start in range(0, num_rows, step):
        rows = slice(start, start + step)
        piece = _repacked_piece(weight.rows(rows), form)
        stored[rows], scale[rows] = piece.stored, piece.scale
    return Quantized(stored, scale)


def _repacked_piece(weight: PackedWeight, form: GroupFormat) -> Quantized:
    held, is_exact = _held(weight, form)
    if is_exact.all():
        return held
    rounded = quantize(weight.floats(), form)
    of_weights = is_exact.repeat(form.group_size, axis=1)
    return Quantized(
        np.where(of_weights, held.stored, rounded.stored), np.where(is_exact, held.scale, rounded.scale)
    )


def _held(weight: PackedWeight, form: GroupFormat) -> tuple[Quantized, NDArray[np.bool_]]:
    """The groups of `form` without rounding, and which of them are right: those that it can hold so."""
    groups, scale, has_one_scale = _regrouped(weight, form)
    least, most = groups.min(axis=2), groups.max(axis=2)
    fits, fits_negated = _in_range(least, most, form), _in_range(-most, -least, form)
    # Integers from -8 to 7 become -7 to 8, with a negative scale, if only these fit.
    sign = np.where(fits, 1, -1).astype(np.int16)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = scale * sign
        narrow = scale.astype(form.scale_dtype)
        stored = (groups * sign[:, :, None] + form.offset).astype(np.uint8)
        is_exact = has_one_scale & (fits | fits_negated) & (narrow == scale) & np.isfinite(narrow)
    return Quantized(stored.reshape(len(stored), -1), narrow), is_exact


def _in_range(least: NDArray[Any], most: NDArray[Any], form: GroupFormat) -> NDArray[np.bool_]:
    greatest = 2 * form.limit + 1  # that can be stored
    return (least >= -form.offset) & (most <= greatest - form.offset)


def _regrouped(
    weight: PackedWeight, form: GroupFormat
) -> tuple[NDArray[np.int16], NDArray[np.float64], NDArray[np.bool_]]:
    """Integers `(N, G, group_size)` and scales `(N, G)` in the groups of `form`, and where they are exact.

    A unit is as many weights as have one scale before and after. If the units of a group have several
    scales, the least one becomes that of the group, and the integers of the others are multiplied.
    """
    num_rows, depth = weight.integers.shape
    unit, num_groups = gcd(weight.group_size, form.group_size), form.count(depth)
    values = np.zeros((num_rows, form.padded(depth)), np.int16)
    values[:, :depth] = weight.values()
    units: NDArray[np.int16] = values.reshape(num_rows, num_groups, -1, unit)
    scales = _scales_of_units(weight, units.shape, unit)
    is_used: NDArray[np.bool_] = (units != 0).any(axis=3)
    least = np.where(is_used, scales, np.inf).min(axis=2)
    scale = np.where(is_used.any(axis=2), least, 0)
    if unit == form.group_size:
        return units[:, :, 0], scale, np.isfinite(scale)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factors = np.where(is_used, scales / scale[:, :, None], 1)
    are_whole = (factors == np.rint(factors)) & (np.abs(factors) <= _LARGEST_FACTOR)
    factors = np.where(are_whole, factors, 0).astype(np.int16)
    multiplied = (units * factors[:, :, :, None]).reshape(num_rows, num_groups, -1)
    return multiplied, scale, are_whole.all(axis=2)


def _scales_of_units(weight: PackedWeight, shape: tuple[int, ...], unit: int) -> NDArray[np.float64]:
    """The scale of each unit, `(N, G, units of a group)`; 0 beyond the depth."""
    num_rows, num_groups, per_group, _ = shape
    scales = np.zeros((num_rows, num_groups * per_group))
    known = weight.scale.astype(np.float64).repeat(weight.group_size // unit, axis=1)
    count = min(scales.shape[1], known.shape[1])
    scales[:, :count] = known[:, :count]
    return scales.reshape(num_rows, num_groups, per_group)
