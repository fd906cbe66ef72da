"""The definition of what is drawn, step by step in the documented order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.engine.sampling import SamplingParams


def distribution(
    row: NDArray[Any],
    params: SamplingParams,
    prompt: Sequence[int],
    output: Sequence[int],
    allowed: Collection[int] | None = None,
) -> NDArray[np.float64]:
    """The probability of each token after a prompt and an output, given the row of logits there. `allowed`
    are the tokens that a constraint allows, if there is one.
    """
    logits = row.astype(np.float64)
    for token, bias in params.logit_bias.items():
        logits[token] += bias
    for token in set(output):
        logits[token] -= params.presence_penalty + params.frequency_penalty * output.count(token)
    for token in {*prompt, *output}:
        factor = params.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    if len(output) < params.min_tokens:
        logits[list(params.stop_token_ids)] = -np.inf
    if allowed is not None:
        logits[[token for token in range(len(row)) if token not in allowed]] = -np.inf
    if params.temperature == 0:
        return np.asarray(np.arange(len(row)) == logits.argmax(), np.float64)
    weights = np.exp((logits - logits.max()) / params.temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[: params.top_k]
    before = np.cumsum(weights[kept]) - weights[kept]
    kept = kept[before < params.top_p * weights[kept].sum()]
    kept = kept[weights[kept] >= params.min_p]
    probabilities = np.zeros(len(row))
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


def distance(drawn: NDArray[Any], expected: NDArray[np.float64]) -> tuple[float, float]:
    """Pearson's chi-square of counts, and a bound that it exceeds once in a million times. Counts that are
    expected to be small are taken together.
    """
    order = np.argsort(expected)
    small = order[np.cumsum(expected[order]) < 10]
    rest = np.setdiff1d(order, small)
    counts = np.array([drawn[small].sum(), *drawn[rest]], np.float64)
    means = np.array([expected[small].sum(), *expected[rest]])
    chi_square = float(((counts - means) ** 2 / np.maximum(means, 1.0)).sum())
    freedom = len(counts)
    return chi_square, freedom + 6 * (2 * freedom) ** 0.5
