"""Drawing tokens, compared with the definition of each parameter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.runtime.rows import RowOperations
from mlc_serve.runtime.sampler import Sampler
from tests.runtime.definition import distribution

ROW = np.array([1.0, 3.0, -2.0, 2.5, 0.0, 2.0, -1.0, 0.5, 1.5, -30.0], np.float32)
PROMPT, OUTPUT = (1, 1, 4), (3, 3, 5)
NUM_DRAWS = 1500


@pytest.fixture
def sampler(rows: RowOperations) -> Sampler:
    """A sampler on NumPy, and one on kernels."""
    return Sampler(rows)


def draw(
    sampler: Sampler,
    row: NDArray[Any],
    params: SamplingParams,
    seed: int = 0,
    output: tuple[int, ...] = OUTPUT,
) -> int:
    """Draw one token."""
    (result,) = sampler.sample(row[None].copy(), [Draw(params, PROMPT, output, seed)])
    assert result.error is None
    assert result.token_id is not None
    return result.token_id


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=2.0),
        SamplingParams(top_p=0.7),
        SamplingParams(top_p=1e-9),
        SamplingParams(top_k=3),
        SamplingParams(top_k=1),
        SamplingParams(top_k=100, top_p=0.5),
        SamplingParams(min_p=0.2),
        SamplingParams(repetition_penalty=1.8),
        SamplingParams(presence_penalty=1.5),
        SamplingParams(frequency_penalty=-0.7),
        SamplingParams(logit_bias={9: 33.0, 1: -100.0}),
        SamplingParams(min_tokens=4, stop_token_ids=frozenset({1, 3})),
        SamplingParams(min_tokens=3, stop_token_ids=frozenset({1, 3})),
        SamplingParams(
            temperature=1.5,
            top_k=6,
            top_p=0.9,
            min_p=0.05,
            repetition_penalty=1.2,
            presence_penalty=0.4,
            frequency_penalty=0.3,
            logit_bias={0: 1.0, 2: 4.0},
            min_tokens=9,
            stop_token_ids=frozenset({8}),
        ),
    ],
    ids=str,
)
def test_tokens_come_as_often_as_they_should(sampler: Sampler, params: SamplingParams) -> None:
    """Over many seeds, tokens come as often as the definition says (chi-square), and those that it excludes
    never do.
    """
    expected = distribution(ROW, params, PROMPT, OUTPUT) * NUM_DRAWS
    draws = [Draw(params, PROMPT, OUTPUT, seed) for seed in range(NUM_DRAWS)]
    results = sampler.sample(np.tile(ROW, (NUM_DRAWS, 1)), draws)
    drawn = np.bincount([result.token_id or 0 for result in results], minlength=len(ROW))

    assert drawn[expected == 0].sum() == 0
    likely = expected > 0
    distance = ((drawn - expected)[likely] ** 2 / np.maximum(expected[likely], 1)).sum()
    assert distance < likely.sum() + 5 * np.sqrt(2 * likely.sum())


@pytest.mark.parametrize("top_p", [0.0, 1e-300, 1e-9])
def test_the_smallest_nucleus_is_the_likeliest_token(sampler: Sampler, top_p: float) -> None:
    """At least the likeliest token is kept, however small top_p is."""
    params = SamplingParams(temperature=5.0, top_p=top_p)
    assert {draw(sampler, ROW, params, seed) for seed in range(50)} == {1}


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-40, 1e-6])
def test_next_to_no_temperature_is_greedy(sampler: Sampler, temperature: float) -> None:
    """A temperature near 0, even if float32 can't divide by it, chooses the first likeliest token."""
    row = ROW.copy()
    row[4] = row[1]
    assert {draw(sampler, row, SamplingParams(temperature=temperature), seed) for seed in range(50)} == {1}


def test_a_draw_depends_on_seed_and_position_alone(sampler: Sampler) -> None:
    """A draw is the same in any batch, and differs for other seeds and positions."""
    params = SamplingParams(temperature=1.5)
    one = [draw(sampler, ROW, params, seed=7, output=(3,) * n) for n in range(40)]
    batch = sampler.sample(np.tile(ROW, (40, 1)), [Draw(params, (2,), (5,) * n, 7) for n in range(40)])
    assert [result.token_id for result in batch] == one
    assert [draw(sampler, ROW, params, seed=8, output=(3,) * n) for n in range(40)] != one
    assert len(set(one)) > 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=0, num_top_logprobs=2)])
def test_a_row_that_is_no_number_fails_alone(sampler: Sampler, bad: float, params: SamplingParams) -> None:
    """The result of such a row is an error, and the other rows are drawn."""
    logits = np.tile(ROW, (3, 1))
    logits[1, 6] = bad
    results = sampler.sample(logits, [Draw(params, PROMPT, (), 0)] * 3)
    assert [result.error for result in results] == [None, "the model's output is not a number", None]
    assert [result.token_id is None for result in results] == [False, True, False]


def test_a_draw_that_can_not_be_made_fails_alone(sampler: Sampler) -> None:
    """Even if a draw has parameters that checks should have refused, the others are drawn as without it."""
    wrong = [
        SamplingParams(logit_bias={len(ROW): 1.0}),
        SamplingParams(min_tokens=9, stop_token_ids=frozenset({10**9})),
        SamplingParams(logit_bias={2: "x"}),  # type: ignore[dict-item]
        SamplingParams(temperature=None),  # type: ignore[arg-type]
    ]
    for params in wrong:
        logits = np.tile(ROW, (3, 1))
        draws = [Draw(params if i == 1 else SamplingParams(), PROMPT, OUTPUT, i) for i in range(3)]
        first, failed, last = sampler.sample(logits, draws)
        assert [first.token_id, last.token_id] == [draw(sampler, ROW, SamplingParams(), i) for i in (0, 2)]
        assert failed.token_id is None
        assert failed.error is not None
        np.testing.assert_array_equal(logits, np.tile(ROW, (3, 1)))


def test_nothing_is_drawn_where_every_token_would_end_too_early(sampler: Sampler) -> None:
    """If min_tokens forbids every token, the row fails instead of ending the sequence too early."""
    params = SamplingParams(min_tokens=9, stop_token_ids=frozenset(range(len(ROW))))
    (result,) = sampler.sample(ROW[None].copy(), [Draw(params, PROMPT, OUTPUT, 0)])
    assert (result.token_id, result.error) == (None, "the model's output is not a number")


def test_a_logprob_that_is_no_number_is_no_result(sampler: Sampler) -> None:
    """A draw that asks for logprobs fails if they are no numbers, even where a token could be drawn."""
    row = ROW.copy()
    row[6] = np.inf
    params = SamplingParams(min_tokens=9, stop_token_ids=frozenset({6}))
    assert draw(sampler, row, params) != 6
    asked = replace(params, num_top_logprobs=2)
    (result,) = sampler.sample(row[None].copy(), [Draw(asked, PROMPT, OUTPUT, 0)])
    assert (result.token_id, result.logprobs, result.error) == (
        None,
        None,
        "the model's output is not a number",
    )


@pytest.mark.parametrize("penalty", [1e-6, 1e-9, 1e-38, 5e-324])
def test_the_smallest_repetition_penalties_repeat(sampler: Sampler, penalty: float) -> None:
    """With the smallest penalties the likeliest of the tokens already seen is drawn, as in the limit."""
    params = SamplingParams(repetition_penalty=penalty)
    assert {draw(sampler, ROW, params, seed) for seed in range(20)} == {1}


numbers = st.floats(allow_nan=False, width=32)
tokens = st.integers(0, len(ROW) - 1)
rows_of_logits = st.lists(
    st.one_of(
        st.lists(numbers, min_size=len(ROW), max_size=len(ROW)),
        st.lists(st.sampled_from([0.0, -np.inf, 3.4e38, -3.4e38, 1.0]), min_size=len(ROW), max_size=len(ROW)),
        st.lists(st.floats(width=32), min_size=len(ROW), max_size=len(ROW)),
    ),
    min_size=1,
    max_size=4,
)
any_params = st.builds(
    SamplingParams,
    temperature=st.floats(0, 100),
    top_p=st.floats(0, 1),
    top_k=st.none() | st.integers(1, len(ROW) - 1),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0, 100, exclude_min=True),
    presence_penalty=st.floats(-100, 100),
    frequency_penalty=st.floats(-100, 100),
    logit_bias=st.dictionaries(tokens, st.floats(-100, 100)),
    min_tokens=st.integers(0, 10**30),
    stop_token_ids=st.frozensets(tokens),
    num_top_logprobs=st.none() | st.integers(0, 20),
)
any_draws = st.lists(
    st.builds(Draw, any_params, st.lists(tokens), st.lists(tokens), st.integers(0, 2**64 - 1)),
    min_size=4,
    max_size=4,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=rows_of_logits, asked=any_draws)
def test_no_values_make_sampling_raise(
    sampler: Sampler, values: list[list[float]], asked: list[Draw]
) -> None:
    """Whatever the logits are and requests ask for, each row gets an allowed token with finite logprobs, or
    an error; and a row's result does not depend on the others.
    """
    logits = np.array(values, np.float32)
    before, draws = logits.copy(), asked[: len(values)]
    results = sampler.sample(logits, draws)
    np.testing.assert_array_equal(logits, before)
    for i, (result, one) in enumerate(zip(results, draws, strict=True)):
        assert sampler.sample(logits[i : i + 1].copy(), [one]) == [result]
        if result.token_id is None:
            assert result.error == "the model's output is not a number"
            continue
        assert 0 <= result.token_id < len(ROW)
        if len(one.output_ids) < one.params.min_tokens:
            assert result.token_id not in one.params.stop_token_ids
        if result.logprobs is not None:
            assert all(
                np.isfinite(value) for value in [result.logprobs.logprob, *dict(result.logprobs.top).values()]
            )


def test_logits_are_left_as_they_are(sampler: Sampler) -> None:
    """After a draw with bias and penalties, the logits are what they were before."""
    logits = ROW[None].copy()
    params = SamplingParams(logit_bias={0: 5}, repetition_penalty=2, frequency_penalty=1, min_tokens=9)
    sampler.sample(logits, [Draw(params, PROMPT, OUTPUT, 0)])
    np.testing.assert_array_equal(logits[0], ROW)
    assert sampler.sample(logits[:0], []) == []


@pytest.mark.parametrize("num_top", [0, 3, 50])
def test_logprobs_are_the_model_s_own(sampler: Sampler, num_top: int) -> None:
    """Logprobs are natural logarithms without the request's changes; the likeliest come first."""
    params = SamplingParams(temperature=0, logit_bias={2: 100.0}, num_top_logprobs=num_top)
    (result,) = sampler.sample(ROW[None].copy(), [Draw(params, PROMPT, OUTPUT, 0)])
    logprobs = ROW - np.log(np.exp(ROW.astype(np.float64)).sum())

    assert result.logprobs is not None
    assert result.logprobs.token_id == result.token_id == 2
    assert result.logprobs.logprob == pytest.approx(logprobs[2], abs=1e-6)
    order = np.argsort(-ROW, kind="stable")[:num_top]
    assert [token for token, _ in result.logprobs.top] == order.tolist()
    assert [value for _, value in result.logprobs.top] == pytest.approx(logprobs[order].tolist(), abs=1e-6)


def test_no_logprobs_unless_asked_for(sampler: Sampler) -> None:
    """A draw that does not ask for logprobs has None."""
    (result,) = sampler.sample(ROW[None].copy(), [Draw(SamplingParams(), PROMPT, (), 0)])
    assert result.logprobs is None


def test_rows_with_a_target_are_scored(sampler: Sampler) -> None:
    """Each row with a target gets one score, in order; a row without a target gets none."""
    scores = sampler.score(np.stack([ROW, ROW * 2, ROW]), [3, None, 0], 1)
    assert [(one.token_id, one.top[0][0], len(one.top)) for one in scores] == [(3, 1, 1), (0, 1, 1)]
    assert scores[0].logprob - scores[1].logprob == pytest.approx(float(ROW[3] - ROW[0]))


def test_a_scored_token_has_its_place_among_all(sampler: Sampler) -> None:
    """Its rank is where the list of all tokens has it, also if others are as likely."""
    row = np.array([0.5, 2.0, 0.5, -1.0, 0.5], np.float32)
    scores = sampler.score(np.tile(row, (len(row) + 1, 1)), [None, *range(len(row))], len(row))
    assert [score.rank for score in scores] == [2, 1, 3, 5, 4]
    assert all(score.top[(score.rank or 0) - 1] == (score.token_id, score.logprob) for score in scores)
