"""Operations on whole rows of logits: both implementations are compared with definitions by sorting, and
with each other.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.runtime.compiled_rows import CompiledRows
from mlc_serve.runtime.rows import Histories, NumPyRows, RowOperations, Settings

WIDTHS = [1, 15, 16, 17, 255, 256, 257, 5003]


def logits(count: int, vocab: int, spread: float = 3.0, seed: int = 0) -> NDArray[np.float32]:
    """Rows of normally distributed numbers."""
    return (np.random.default_rng(seed).standard_normal((count, vocab)) * spread).astype(np.float32)


def settings(
    numbers: Any, temperature: float = 1.0, top_k: int = 2**30, top_p: float = 1.0, min_p: float = 0.0
) -> Settings:
    """Settings that are the same for each row, except for the random number that decides its draw."""
    return np.array([(temperature, top_k, top_p, min_p, number) for number in numbers], np.float64)


def last_of_nucleus(row: NDArray[np.float32], top_k: int, top_p: float) -> int:
    """The least likely token that top_k and top_p keep, computed in float64."""
    order = np.argsort(-row, kind="stable")[:top_k]
    weights = np.exp(row[order].astype(np.float64) - row.max())
    before = np.cumsum(weights) - weights
    return int(order[before < top_p * weights.sum()][-1])


@pytest.mark.parametrize("vocab", WIDTHS)
def test_the_first_of_the_greatest_is_the_likeliest(rows: RowOperations, vocab: int) -> None:
    """Without temperature, the first of the greatest logits is chosen, in rows of any width."""
    batch = np.round(logits(20, vocab))
    chosen = rows.choose(batch, settings([0.5] * 20, temperature=0.0))
    np.testing.assert_array_equal(chosen.tokens, batch.argmax(axis=1))
    np.testing.assert_array_equal(chosen.peaks, batch.max(axis=1))


@pytest.mark.parametrize("vocab", [1, 17, 700])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_no_number_shows(
    rows: RowOperations, vocab: int, bad: float, temperature: float
) -> None:
    """The peak of a row with NaN or inf anywhere, or without a possible token, is not finite."""
    batch = logits(4, vocab)
    batch[0, vocab // 2], batch[1, -1] = bad, bad
    batch[2:] = -np.inf
    batch[3, vocab // 2] = -7
    for top_p in (0.5, 1.0):
        chosen = rows.choose(batch, settings([0.5] * 4, temperature, top_p=top_p))
        assert np.isfinite(chosen.peaks).tolist() == [False, False, False, True]
        assert chosen.tokens[3] == vocab // 2


@pytest.mark.parametrize("top_p", [1e-9, 0.1, 0.5, 0.95, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("top_k", [1, 12, 40, 700, 2**30])
def test_what_is_kept_is_exact(rows: RowOperations, top_p: float, spread: float, top_k: int) -> None:
    """Whether a large vocabulary is flat, peaked or all alike, the last token that is kept is the one that
    reaches top_p. Draws go by id: that token is the last of a descending row, and the first of an ascending.
    """
    descending = -np.sort(-logits(1, 5003, spread)[0])
    ascending = descending[::-1].copy()
    asked = settings([1e-12, 1 - 1e-12], top_k=top_k, top_p=top_p)
    first, last = rows.choose(np.stack([descending, descending]), asked).tokens
    least, greatest = rows.choose(np.stack([ascending, ascending]), asked).tokens
    limit = last_of_nucleus(descending, top_k, top_p)
    assert descending[first] == ascending[greatest] == descending.max()
    if descending[limit] > descending.max() - 12:  # a less likely one is lost in the rounding of sums
        assert last == limit
        assert ascending[least] == descending[limit]


@pytest.mark.parametrize(("temperature", "min_p"), [(0.6, 0.0), (1.0, 0.02), (2.5, 0.3), (1.0, 1.0)])
@pytest.mark.parametrize("ties", [False, True])
def test_kernels_draw_what_numpy_draws(
    compiled_rows: CompiledRows, temperature: float, min_p: float, ties: bool
) -> None:
    """The same number draws the same token, whatever is filtered, but for one row at most in which the sums
    differ by their rounding.
    """
    numbers = (np.arange(20) + 0.5) / 20
    for vocab, top_k, top_p in product([1, 17, 257, 5003], [3, 64, 65, 900, 2**30], [0.3, 0.9, 1.0]):
        batch = logits(20, vocab, seed=vocab)
        batch = np.round(batch) if ties else batch
        asked = settings(numbers, temperature, top_k, top_p, min_p)
        expected, actual = NumPyRows().choose(batch, asked), compiled_rows.choose(batch, asked)
        np.testing.assert_array_equal(actual.peaks, expected.peaks)
        assert (actual.tokens != expected.tokens).sum() <= 1


def test_impossible_tokens_are_never_drawn(rows: RowOperations) -> None:
    """Tokens with a logit of -inf are not drawn, first, last or between, filtered or not."""
    batch = logits(1, 3000)
    batch[0, ::2] = -np.inf
    batch[0, :600] = -np.inf
    batch[0, 2500:] = -np.inf
    numbers = (1e-15, 0.5, 1 - 1e-15)
    for top_k, top_p, min_p in product([2, 2000, 2**30], [0.5, 0.9999999999, 1.0], [0.0, 1e-9]):
        asked = settings(numbers, 1.0, top_k, top_p, min_p)
        tokens = rows.choose(np.repeat(batch, 3, axis=0), asked).tokens
        assert np.isfinite(batch[0, tokens]).all()


def test_a_row_is_drawn_alike_in_any_batch(rows: RowOperations) -> None:
    """A row's draw does not depend on what the other rows ask for."""
    batch = logits(6, 900)
    asked = np.concatenate([settings([0.3, 0.8], top_p=0.8), settings([0.1, 0.7]), settings([0.5, 0.9], 0.0)])
    together = rows.choose(batch, asked).tokens
    alone = [int(rows.choose(batch[i : i + 1], asked[i : i + 1]).tokens[0]) for i in range(6)]
    assert together.tolist() == alone


@pytest.mark.parametrize("vocab", WIDTHS)
@pytest.mark.parametrize("num_top", [0, 1, 20, 100])
def test_scores_are_normalizers_and_the_likeliest(rows: RowOperations, vocab: int, num_top: int) -> None:
    """The rows that are asked for are scored in that order; equal logits are listed by id."""
    batch = np.round(logits(5, vocab) * 2)
    batch[3, 0] = -1e4
    wanted = np.array([[4, num_top], [0, 0], [3, num_top]], np.int32)
    scores = rows.score(batch, wanted)
    order = np.argsort(-batch, axis=1, kind="stable")
    for i, (row, count) in enumerate(wanted):
        exact = np.logaddexp.reduce(batch[row].astype(np.float64))
        assert scores.normalizers[i] == pytest.approx(exact, abs=1e-6)
        assert scores.num_listed[i] == min(count, vocab)
        assert scores.ids[i, : scores.num_listed[i]].tolist() == order[row, :count].tolist()


def test_impossible_tokens_are_not_listed(rows: RowOperations) -> None:
    """Only tokens with a finite logit are listed, even if more were asked for."""
    batch = np.full((1, 300), -np.inf, np.float32)
    batch[0, [4, 260]] = [1.0, 2.0]
    scores = rows.score(batch, np.array([[0, 5]], np.int32))
    assert scores.ids[0, : scores.num_listed[0]].tolist() == [260, 4]


def test_a_row_that_is_no_number_has_no_score(rows: RowOperations) -> None:
    """The normalizer of such a row is NaN, and no tokens are listed."""
    batch = logits(2, 50)
    batch[0, 7], batch[1, 9] = np.nan, np.inf
    scores = rows.score(batch, np.array([[0, 3], [1, 3]], np.int32))
    assert np.isnan(scores.normalizers).all()
    assert scores.num_listed.tolist() == [0, 0]


def test_penalties_are_for_what_each_row_has_seen(rows: RowOperations) -> None:
    """Penalties count the output's tokens; then repetition is penalized once, for prompt and output."""
    batch = logits(3, 40)
    ids = np.array([5, 5, 7, 9, 7, 7, 11, 11, 12], np.int32)
    spans = np.array([[0, 3, 6], [6, 6, 6], [6, 6, 9]], np.int32)
    penalties = np.array([[0.5, 0.25, 1.5], [0.5, 0.25, 1.5], [1.0, -0.5, 1.0]], np.float32)
    expected = batch.copy()
    for row, token, times in ((0, 9, 1), (0, 7, 2), (2, 11, 2), (2, 12, 1)):
        expected[row, token] -= penalties[row, 0] + penalties[row, 1] * times
    for token in (5, 7, 9):
        factor = np.float32(1.5)
        expected[0, token] = (
            expected[0, token] / factor if expected[0, token] > 0 else expected[0, token] * factor
        )

    rows.penalize(batch, Histories(ids, spans, penalties))

    np.testing.assert_array_equal(batch, expected)
