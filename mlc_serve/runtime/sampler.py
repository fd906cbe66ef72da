"""From logits to tokens, on the host, in NumPy.

The order is that of `engine.sampling.SamplingParams`. Logprobs are those of the model's own distribution,
before anything a request asks for. A draw looks at no more of the vocabulary than it must: greedy rows are
one argmax, and nucleus sampling sorts the likeliest few, and more only while they do not hold the mass that
was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlc_serve.engine.backend import StepResult, TokenLogprobs
from mlc_serve.engine.sampling import Draw, SamplingParams

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

# Below this a draw is the likeliest token's in any case, and float32 could not divide by it.
_GREEDY_TEMPERATURE = 1e-5
_FIRST_CANDIDATES = 256  # of a nucleus; four times as many each time that these are not enough


def sample(logits: npt.NDArray[np.float32], draws: Sequence[Draw]) -> list[StepResult]:
    """Draw a token from each row of `(n, vocab)` logits, which are left as they are."""
    if not draws:
        return []
    greedy = logits.argmax(axis=1)
    return [_draw(row, draw, int(best)) for row, draw, best in zip(logits, draws, greedy, strict=True)]


def score(
    logits: npt.NDArray[np.float32], targets: Sequence[int | None], num_top_logprobs: int
) -> list[TokenLogprobs]:
    """The logprob of each row's target, and the likeliest alternatives; nothing for rows without a target."""
    return [
        _logprobs(row, target, num_top_logprobs)
        for row, target in zip(logits, targets, strict=True)
        if target is not None
    ]


def uniform(seed: int, index: int) -> float:
    """The number in [0, 1) that decides draw `index` of a sequence: counter-based (Philox), so no state is
    kept.
    """
    return float(np.random.Generator(np.random.Philox(key=seed, counter=index)).random())


def _draw(row: Row, draw: Draw, best: int) -> StepResult:
    if not np.isfinite(row[best]):
        return StepResult(error="the model's output is not a number")
    token = _choose(row, draw, best)
    wanted = draw.params.num_top_logprobs
    return StepResult(token, None if wanted is None else _logprobs(row, token, wanted))


def _choose(row: Row, draw: Draw, best: int) -> int:
    params = draw.params
    if _reshapes(draw):
        row = _reshaped(row, draw)
        best = int(row.argmax())
    if params.temperature < _GREEDY_TEMPERATURE:
        return best
    ids, weights = _candidates(row, params, float(row[best]))
    totals = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(totals, uniform(draw.seed, len(draw.output_ids)) * totals[-1], side="right"))
    return int(ids[min(place, len(ids) - 1)])


# ---------------------------------------------------------------- what a request adds to the logits


def _reshapes(draw: Draw) -> bool:
    params = draw.params
    return bool(
        params.logit_bias
        or params.presence_penalty
        or params.frequency_penalty
        or params.repetition_penalty != 1.0
        or len(draw.output_ids) < params.min_tokens
    )


def _reshaped(row: Row, draw: Draw) -> Row:
    params, row = draw.params, row.copy()
    if params.logit_bias:
        row[list(params.logit_bias)] += np.fromiter(params.logit_bias.values(), np.float32)
    if draw.output_ids and (params.presence_penalty or params.frequency_penalty):
        ids, counts = np.unique(np.asarray(draw.output_ids), return_counts=True)
        row[ids] -= params.presence_penalty + counts.astype(np.float32) * params.frequency_penalty
    if params.repetition_penalty != 1.0:
        ids = np.unique(np.concatenate([np.asarray(draw.prompt_ids), np.asarray(draw.output_ids, int)]))
        seen = row[ids]
        row[ids] = np.where(seen > 0, seen / params.repetition_penalty, seen * params.repetition_penalty)
    if len(draw.output_ids) < params.min_tokens and params.stop_token_ids:
        row[list(params.stop_token_ids)] = -np.inf
    return row


# ---------------------------------------------------------------- which tokens may be drawn


def _candidates(row: Row, params: SamplingParams, peak: float) -> tuple[Ids, Row]:
    """Token ids and their weights (probabilities up to a factor), likeliest first where that matters."""
    weights = np.exp((row - np.float32(peak)) / np.float32(params.temperature))
    if params.top_k is not None and params.top_k < len(row):
        ids = _likeliest(weights, params.top_k)
        ids = ids[: _nucleus(weights[ids], params.top_p, float(weights[ids].sum(dtype=np.float64)))]
    elif params.top_p < 1:
        ids = _nucleus_of_all(weights, params.top_p)
    else:
        ids = np.arange(len(row))
    if params.min_p > 0:
        ids = ids[weights[ids] >= params.min_p]  # the likeliest token's weight is 1
    return ids, weights[ids]


def _nucleus_of_all(weights: Row, top_p: float) -> Ids:
    total, count = float(weights.sum(dtype=np.float64)), _FIRST_CANDIDATES
    while True:
        ids = _likeliest(weights, count)
        size = _nucleus(weights[ids], top_p, total)
        if size < len(ids) or len(ids) == len(weights):
            return ids[:size]
        count *= 4


def _likeliest(weights: Row, count: int) -> Ids:
    """The `count` greatest, greatest first; equal ones by id."""
    count = min(count, len(weights))
    ids = np.sort(np.argpartition(weights, len(weights) - count)[len(weights) - count :])
    return ids[np.argsort(-weights[ids], kind="stable")]


def _nucleus(weights: Row, top_p: float, total: float) -> int:
    """How many of the sorted weights it takes to hold `top_p` of the total; at least one."""
    reached = np.searchsorted(np.cumsum(weights, dtype=np.float64), top_p * total, side="left")
    return min(int(reached) + 1, len(weights))


# ---------------------------------------------------------------- logprobs


def _logprobs(row: Row, token: int, num_top: int) -> TokenLogprobs:
    peak = float(row.max())
    normalizer = peak + float(np.log(np.exp(row - np.float32(peak)).sum(dtype=np.float64)))
    top = tuple((int(i), float(row[i]) - normalizer) for i in (_likeliest(row, num_top) if num_top else ()))
    return TokenLogprobs(token, float(row[token]) - normalizer, top)
