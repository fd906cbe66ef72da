"""Draws tokens from logits: turns draws into the numbers that `runtime.rows` takes, and its answers into
results.

Parameters are applied in the order that `engine.sampling.SamplingParams` states. Logprobs are those of the
model's own distribution, before any parameter is applied. The work done here grows only with the batch; the
work that grows with the vocabulary is done by `runtime.rows`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.runtime.adjustments import adjusted
from mlc_serve.runtime.rows import Choices, Logits, RowOperations, Settings
from mlc_serve.runtime.uniform import uniforms

logger = logging.getLogger(__name__)

# A lower temperature always gives the likeliest token, and float32 could not divide by it.
_GREEDY_TEMPERATURE = 1e-5
# A smaller top_p, such as 0, gives the likeliest token as well.
_LEAST_TOP_P = 1e-9
# The reasons why a draw has no token.
NO_NUMBER = "the model's output is not a number"
NOTHING_ALLOWED = "the request's constraint leaves no token to choose from"


class Drawn(NamedTuple):
    """The result of one draw: a token, with its logprobs if they were asked for, or an error."""

    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    error: str | None = None


class Sampler:
    """Draws and scores tokens. Logits are `(n, vocab)`, contiguous, and unchanged after each call."""

    def __init__(self, rows: RowOperations) -> None:
        self._rows = rows

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw a token from each row.

        If one draw fails, for whatever reason, its result has an error, and the others are not affected.
        """
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # results that are not finite become errors
                return self._sample(logits, draws)
        except Exception as error:
            if len(draws) == 1:
                logger.exception("A draw has failed")
                return [Drawn(error=f"the draw has failed: {error!r}")]
        return [result for i, draw in enumerate(draws) for result in self.sample(logits[i : i + 1], [draw])]

    def _sample(self, logits: Logits, draws: Sequence[Draw]) -> list[Drawn]:
        if not draws:
            return []
        with adjusted(logits, draws, self._rows):
            choices = self._rows.choose(logits, _settings(draws, logits.shape[1]))
        logprobs = self._logprobs_of(logits, draws, choices)
        return [
            _result(draw, token, peak, logprobs.get(i))
            for i, (draw, token, peak) in enumerate(
                zip(draws, choices.tokens.tolist(), choices.peaks.tolist(), strict=True)
            )
        ]

    def guess(self, logits: Logits, draws: Sequence[Draw]) -> list[int | None]:
        """Draw a token from each row as `sample` does, but without logprobs and without errors: where a draw
        fails, there is no token.
        """
        unscored = [
            replace(draw, params=replace(draw.params, num_top_logprobs=None))
            if draw.params.num_top_logprobs is not None
            else draw
            for draw in draws
        ]
        return [drawn.token_id for drawn in self.sample(logits, unscored)]

    def score(
        self, logits: Logits, targets: Sequence[int | None], num_top_logprobs: int
    ) -> list[TokenLogprobs]:
        """Return the logprob of each row's target, its rank, and the logprobs of its likeliest alternatives,
        for rows with a target.

        A logprob is NaN if the row's logits are.
        """
        wanted = [(row, target, num_top_logprobs) for row, target in enumerate(targets) if target is not None]
        scored = self._logprobs(logits, wanted)
        return [
            replace(logprobs, rank=_rank(logits[row], target))
            for (row, target, _), logprobs in zip(wanted, scored, strict=True)
        ]

    def _logprobs_of(
        self, logits: Logits, draws: Sequence[Draw], choices: Choices
    ) -> dict[int, TokenLogprobs]:
        """Return the logprobs of the drawn tokens by row, where they were asked for."""
        wanted = [
            (i, int(choices.tokens[i]), draw.params.num_top_logprobs)
            for i, draw in enumerate(draws)
            if draw.params.num_top_logprobs is not None
        ]
        scored = self._logprobs(logits, wanted)
        return {row: logprobs for (row, _, _), logprobs in zip(wanted, scored, strict=True)}

    def _logprobs(self, logits: Logits, wanted: Sequence[tuple[int, int, int]]) -> list[TokenLogprobs]:
        """Return the logprobs for tuples of (row, token, number of alternatives)."""
        if not wanted:
            return []
        rows, tokens, nums_top = np.array(wanted, np.int32).T
        scores = self._rows.score(logits, np.stack([rows, nums_top], axis=1))
        own = (logits[rows, tokens] - scores.normalizers).tolist()
        top_values = (logits[rows[:, None], scores.ids] - scores.normalizers[:, None]).tolist()
        return [
            TokenLogprobs(token, logprob, tuple(zip(ids[:count], values[:count], strict=True)))
            for token, logprob, ids, values, count in zip(
                tokens.tolist(), own, scores.ids.tolist(), top_values, scores.num_listed.tolist(), strict=True
            )
        ]


def _rank(row: Logits, token: int) -> int:
    """Return the place of a token among all, the likeliest first, and by id if they are equally likely."""
    value = row[token]
    return 1 + int(np.count_nonzero(row > value)) + int(np.count_nonzero(row[:token] == value))


def _result(draw: Draw, token: int, peak: float, logprobs: TokenLogprobs | None) -> Drawn:
    """Return the result of a draw. The model's logits may be NaN although the adjusted ones are finite."""
    is_number = math.isfinite(peak) and (logprobs is None or math.isfinite(logprobs.logprob))
    if is_number:
        return Drawn(token, logprobs)
    return Drawn(error=NO_NUMBER if draw.constraint is None else NOTHING_ALLOWED)


def _settings(draws: Sequence[Draw], vocab: int) -> Settings:
    """Return the settings that RowOperations.choose takes."""
    temperatures = [_temperature(draw.params) for draw in draws]
    numbers = _numbers(draws) if any(temperatures) else [0.0] * len(draws)
    return np.array(
        [
            (
                temperature,
                vocab if draw.params.top_k is None else draw.params.top_k,
                max(draw.params.top_p, _LEAST_TOP_P),
                draw.params.min_p,
                number,
            )
            for draw, temperature, number in zip(draws, temperatures, numbers, strict=True)
        ]
    )


def _temperature(params: SamplingParams) -> float:
    return params.temperature if params.temperature >= _GREEDY_TEMPERATURE else 0.0


def _numbers(draws: Sequence[Draw]) -> list[float]:
    """Return the uniform random number that decides each draw."""
    return list(uniforms([draw.seed for draw in draws], [len(draw.output_ids) for draw in draws]))
