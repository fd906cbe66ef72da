"""Adjusts logits as requests ask: biases, penalties, end tokens that may not come yet, and constraints.

All of these except constraints change few logits of a row. They are made in place and undone afterwards, so
that only rows with a constraint are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.runtime.rows import Histories, Logits, RowOperations

TokenIds = npt.NDArray[np.int64]

# A smaller repetition penalty makes no difference, and float32 could not divide by it.
_LEAST_REPETITION_PENALTY = 1e-6


@contextmanager
def adjusted(logits: Logits, draws: Sequence[Draw], rows: RowOperations) -> Iterator[None]:
    """Adjust each row of `(n, vocab)` logits for its draw until the context is left.

    Applies the bias, then the presence and frequency penalties, then the repetition penalty. Then sets the
    end tokens before `min_tokens` and the tokens that the constraint forbids to minus infinity; if it forbids
    all tokens, the whole row is minus infinity.
    """
    edited = [(i, draw) for i, draw in enumerate(draws) if _adjusts(draw)]
    if not edited:
        yield
        return
    histories = _histories(draws)
    flat = logits.reshape(-1)
    touched = np.concatenate([_positions(histories, logits.shape[1]), _listed(edited, logits.shape[1])])
    before = flat[touched]
    constrained = [i for i, draw in edited if draw.constraint is not None]
    whole_rows = logits[constrained]
    try:
        _adjust(logits, edited, histories, rows)
        yield
    finally:
        flat[touched] = before
        logits[constrained] = whole_rows


def _adjust(
    logits: Logits, edited: Sequence[tuple[int, Draw]], histories: Histories, rows: RowOperations
) -> None:
    for i, draw in edited:
        if draw.params.logit_bias:
            logits[i, draw.params.biased_ids] += draw.params.biases
    if len(histories.ids):
        rows.penalize(logits, histories)
    for i, draw in edited:
        if _may_not_end(draw):
            logits[i, draw.params.end_ids] = -np.inf
    _constrain(logits, edited, rows)


def _constrain(logits: Logits, edited: Sequence[tuple[int, Draw]], rows: RowOperations) -> None:
    constrained = [(i, draw.constraint, draw.ahead) for i, draw in edited if draw.constraint is not None]
    if not constrained:
        return
    masks = np.zeros((len(constrained), -(-logits.shape[1] // 32)), np.int32)
    for words, (_, constraint, ahead) in zip(masks, constrained, strict=True):
        constraint.mask(words, ahead)
    rows.mask(logits, np.array([i for i, _, _ in constrained], np.int32), masks)


def _adjusts(draw: Draw) -> bool:
    is_listed = bool(draw.params.logit_bias) or _penalizes(draw.params) or _may_not_end(draw)
    return is_listed or draw.constraint is not None


def _penalizes(params: SamplingParams) -> bool:
    return bool(params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0)


def _may_not_end(draw: Draw) -> bool:
    return len(draw.output_ids) < draw.params.min_tokens


def _listed(edited: Sequence[tuple[int, Draw]], vocab: int) -> TokenIds:
    """Return the positions of all biased tokens and forbidden end tokens in the flattened logits."""
    biased = [i * vocab + draw.params.biased_ids for i, draw in edited]
    forbidden = [i * vocab + draw.params.end_ids for i, draw in edited if _may_not_end(draw)]
    return np.concatenate(biased + forbidden)


def _histories(draws: Sequence[Draw]) -> Histories:
    """Return the tokens to penalize. The prompt is left out if there is no repetition penalty."""
    ids: list[int] = []
    spans: list[tuple[int, int, int]] = []
    for draw in draws:
        start = len(ids)
        if draw.params.repetition_penalty != 1.0:
            ids += draw.prompt_ids
        boundary = len(ids)
        if _penalizes(draw.params):
            ids += draw.output_ids
        spans.append((start, boundary, len(ids)))
    penalties = [
        (
            draw.params.presence_penalty,
            draw.params.frequency_penalty,
            max(draw.params.repetition_penalty, _LEAST_REPETITION_PENALTY),
        )
        for draw in draws
    ]
    return Histories(np.array(ids, np.int32), np.array(spans, np.int32), np.array(penalties, np.float32))


def _positions(histories: Histories, vocab: int) -> TokenIds:
    """Return the positions of the tokens of the histories in the flattened logits."""
    lengths = histories.spans[:, 2] - histories.spans[:, 0]
    return np.repeat(np.arange(len(lengths)) * vocab, lengths) + histories.ids
