"""The sampler's operations on a batch of logits, and their implementation in NumPy.

NumPy serves devices and libraries that have no kernels for these operations, and it is the reference that the
kernels are tested against. Logits are `(n, vocab)` float32, contiguous, with one row for each draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Settings = npt.NDArray[np.float64]

_FIRST_CANDIDATES = 256  # for a nucleus; four times as many each time that these are not enough


@dataclass(frozen=True)
class Choices:
    """A token for each row, and the row's greatest logit, which is NaN if any logit of the row is.

    If the greatest logit is not finite, the token means nothing.
    """

    tokens: Ids
    peaks: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """The log of the sum of exp of each row, and its likeliest tokens, the likeliest first.

    `ids` is `(m, width)`; in each row only the first `num_listed` are valid. A row whose greatest logit is
    not finite has the normalizer NaN and no ids.
    """

    normalizers: npt.NDArray[np.float64]
    num_listed: Ids
    ids: Ids


@dataclass(frozen=True)
class Histories:
    """The tokens to penalize.

    `ids` `(t,)` are the tokens of all rows. `spans` `(n, 3)` are the positions in `ids` where a row's prompt
    starts, where its output starts, and where its output ends. `penalties` `(n, 3)` float32 are the presence,
    frequency and repetition penalties. The first two apply to output tokens; the third applies to all tokens,
    after the other two.
    """

    ids: Ids
    spans: Ids
    penalties: npt.NDArray[np.float32]


class RowOperations(Protocol):
    """The part of sampling whose cost grows with the vocabulary."""

    def choose(self, logits: Logits, settings: Settings) -> Choices:
        """Draw a token from each row.

        `settings` `(n, 5)` are the temperature (0 takes the likeliest token), top_k (the vocabulary's size
        keeps all), top_p, min_p, and a number in (0, 1). The drawn token is the first, in order of ids, at
        which the cumulative share of the remaining mass reaches this number.
        """

    def score(self, logits: Logits, wanted: Ids) -> Scores:
        """Score rows. `wanted` `(m, 2)` are pairs of a row and how many of its likeliest tokens to list."""

    def penalize(self, logits: Logits, histories: Histories) -> None:
        """Apply penalties to the logits in place."""

    def mask(self, logits: Logits, rows: Ids, masks: Ids) -> None:
        """Set tokens to minus infinity in the given rows `(m,)`, in place, unless a mask allows them.

        `masks` is `(m, ceil(vocab / 32))`: bit t % 32 of word t // 32 says that token t is allowed.
        """


class NumPyRows:
    """Implements RowOperations one row at a time.

    Nucleus sampling sorts only the likeliest few tokens, and more of them only if these do not have the mass
    that was asked for.
    """

    def choose(self, logits: Logits, settings: Settings) -> Choices:
        best = logits.argmax(axis=1)
        peaks = logits[np.arange(len(logits)), best]
        tokens = [
            _draw(row, settings[i]) if settings[i, 0] > 0 and np.isfinite(peaks[i]) else int(best[i])
            for i, row in enumerate(logits)
        ]
        return Choices(np.array(tokens, np.int32), peaks)

    def score(self, logits: Logits, wanted: Ids) -> Scores:
        normalizers = np.array([_normalizer(logits[row]) for row, _ in wanted])
        possible = [np.isfinite(logits[row]).sum() for row, _ in wanted]
        counts = np.where(np.isnan(normalizers), 0, np.minimum(wanted[:, 1], possible))
        ids = np.zeros((len(wanted), max(int(wanted[:, 1].max(initial=0)), 1)), np.int32)
        for i, (row, _) in enumerate(wanted):
            ids[i, : counts[i]] = _likeliest(logits[row], int(counts[i]))
        return Scores(normalizers, counts.astype(np.int32), ids)

    def penalize(self, logits: Logits, histories: Histories) -> None:
        for row, (prompt, output, end), penalties in zip(
            logits, histories.spans, histories.penalties, strict=True
        ):
            _penalize(row, histories.ids[prompt:output], histories.ids[output:end], *penalties)

    def mask(self, logits: Logits, rows: Ids, masks: Ids) -> None:
        allowed = np.unpackbits(masks.view(np.uint8), axis=1, count=logits.shape[1], bitorder="little")
        logits[rows] = np.where(allowed, logits[rows], -np.inf)


# ---------------------------------------------------------------- which tokens may be drawn


def _draw(row: Logits, settings: Settings) -> int:
    temperature, top_k, top_p, min_p, number = settings
    weights = np.exp((row - row.max()) / np.float32(temperature))
    if top_k < len(row):
        ids = _likeliest(row, int(top_k))
        ids = ids[: _nucleus(weights[ids], top_p, float(weights[ids].sum(dtype=np.float64)))]
    elif top_p < 1:
        ids = _nucleus_of_all(row, weights, top_p)
    else:
        ids = np.arange(len(row), dtype=np.int32)
    ids = np.sort(ids[weights[ids] >= min_p])  # the likeliest token's weight is 1
    totals = np.cumsum(weights[ids], dtype=np.float64)
    place = int(np.searchsorted(totals, number * totals[-1], side="left"))
    return int(ids[min(place, len(ids) - 1)])


def _nucleus_of_all(row: Logits, weights: Logits, top_p: float) -> Ids:
    total, count = float(weights.sum(dtype=np.float64)), _FIRST_CANDIDATES
    while True:
        ids = _likeliest(row, count)
        size = _nucleus(weights[ids], top_p, total)
        if size < len(ids) or len(ids) == len(row):
            return ids[:size]
        count *= 4


def _likeliest(row: Logits, count: int) -> Ids:
    """Return the `count` tokens with the greatest logits, greatest first, and by id if they are equal."""
    if not count:
        return np.empty(0, np.int32)
    threshold = np.partition(row, len(row) - min(count, len(row)))[len(row) - min(count, len(row))]
    ids = np.flatnonzero(row >= threshold)
    return ids[np.argsort(-row[ids], kind="stable")][:count].astype(np.int32)


def _nucleus(weights: Logits, top_p: float, total: float) -> int:
    """Return how many of the sorted weights together reach `top_p` of the total; at least one."""
    if top_p >= 1:
        return len(weights)
    reached = np.searchsorted(np.cumsum(weights, dtype=np.float64), top_p * total, side="left")
    return min(int(reached) + 1, len(weights))


# ---------------------------------------------------------------- logprobs and penalties


def _normalizer(row: Logits) -> float:
    peak = row.max()
    if not np.isfinite(peak):
        return float("nan")
    return float(peak) + float(np.log(np.exp(row - peak).sum(dtype=np.float64)))


def _penalize(
    row: Logits, prompt: Ids, output: Ids, presence: np.float32, frequency: np.float32, repetition: np.float32
) -> None:
    ids, counts = np.unique(output, return_counts=True)
    row[ids] -= presence + counts.astype(np.float32) * frequency
    seen = np.union1d(prompt, ids)
    row[seen] = np.where(row[seen] > 0, row[seen] / repetition, row[seen] * repetition)
