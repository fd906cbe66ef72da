"""Drafts change neither the distribution of what is drawn nor its logprobs, on any row of a pass.

The backend's own sampler and its rule for drafts run on logits that are given: those of a Markov chain over
eight tokens, so that each probability is known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.engine.backend import Backend, SequenceStep
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.testing import FakeConstraint
from tests.runtime.definition import distance, distribution

VOCAB, NUM_TOKENS = 8, 3
# Each draft of each place of a chain is forced equally often.
NUM_SEQUENCES = 20 * VOCAB**NUM_TOKENS
# The logits after each token.
TABLE = np.random.default_rng(3).normal(0, 1.5, (VOCAB, VOCAB)).astype(np.float32)
PROMPT = (4, 0)


@pytest.fixture
def backend(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend whose model is the chain."""

    def forward(steps: Sequence[SequenceStep], rows: list[int]) -> NDArray[np.float32]:
        ids = np.array([token for step in steps for token in (*step.token_ids, *step.draft_ids)])
        logits: NDArray[np.float32] = TABLE[ids[rows]]
        return logits

    monkeypatch.setattr(tiny_model.backend, "forward", forward)
    return tiny_model.backend


@dataclass
class Chain:
    """A sequence that is drawn from the chain, with a draft that is forced at each of its places."""

    params: SamplingParams
    seed: int
    forced: Sequence[int]
    constraint: FakeConstraint | None = None

    def __post_init__(self) -> None:
        self.output: list[int] = []

    def step(self) -> SequenceStep:
        """The next step."""
        drafts = list(self.forced[len(self.output) :])
        first = Draw(self.params, PROMPT, self.output, self.seed, self.constraint)
        draws = [first, *(first.after(drafts[:count]) for count in range(1, len(drafts) + 1))]
        return SequenceStep(self.seed, [*PROMPT, *self.output][-1:], draws, drafts)

    def append(self, token_ids: Sequence[int]) -> None:
        """Append what a step has drawn."""
        self.output += token_ids
        if self.constraint is not None:
            self.constraint.accept(token_ids)


def drawn(backend: Backend, chains: Sequence[Chain]) -> NDArray[np.int64]:
    """The tokens of all chains, `(len(chains), NUM_TOKENS)`. All that are incomplete share their passes."""
    while unfinished := [chain for chain in chains if len(chain.output) < NUM_TOKENS]:
        results = backend.run([chain.step() for chain in unfinished])
        for chain, result in zip(unfinished, results, strict=True):
            assert result.error is None
            chain.append(result.token_ids[: NUM_TOKENS - len(chain.output)])
    return np.array([chain.output for chain in chains])


def forced_drafts(sequence: int) -> tuple[int, ...]:
    """The drafts of a sequence, one for each place but the last."""
    return tuple(sequence // VOCAB**place % VOCAB for place in range(NUM_TOKENS - 1))


def expected(params: SamplingParams, allowed: Sequence[Sequence[int]] | None) -> NDArray[np.float64]:
    """The probability of each text, `(VOCAB,) * NUM_TOKENS`."""
    shape = (VOCAB,) * NUM_TOKENS
    probabilities = np.ones(shape)
    for place in range(NUM_TOKENS):
        for output in product(range(VOCAB), repeat=place):
            last = (*PROMPT, *output)[-1]
            mask = None if allowed is None else allowed[place]
            share = distribution(TABLE[last], params, PROMPT, output, mask)
            probabilities[output] *= share.reshape(-1, *[1] * (NUM_TOKENS - place - 1))
    return probabilities


def counts(texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each text occurs, `(VOCAB,) * NUM_TOKENS`."""
    numbers = np.ravel_multi_index(tuple(texts.T), (VOCAB,) * NUM_TOKENS)
    return np.bincount(numbers, minlength=VOCAB**NUM_TOKENS).reshape((VOCAB,) * NUM_TOKENS)


def assert_distributed(texts: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    """Check that texts come as often as they should, and impossible ones never."""
    found, wanted = counts(texts).reshape(-1), probabilities.reshape(-1) * len(texts)
    assert found[wanted == 0].sum() == 0
    chi_square, bound = distance(found, wanted)
    assert chi_square < bound


CASES: dict[str, tuple[SamplingParams, Sequence[Sequence[int]] | None]] = {
    "a nucleus": (SamplingParams(temperature=0.7, top_p=0.5), None),
    "all at once": (
        SamplingParams(
            temperature=1.4,
            top_k=6,
            top_p=0.95,
            min_p=0.02,
            repetition_penalty=1.3,
            presence_penalty=0.4,
            frequency_penalty=0.6,
            logit_bias={1: 1.5, 6: -1.0},
            min_tokens=2,
            stop_token_ids=frozenset({5}),
        ),
        None,
    ),
    "a mask": (SamplingParams(min_p=0.01), [[0, 1, 3, 4, 7], [1, 2, 3, 5, 6, 7], [0, 2, 4, 5]]),
}


@pytest.mark.parametrize("case", CASES)
def test_forced_drafts_do_not_change_the_distribution(backend: Backend, case: str) -> None:
    """Over 30 000 draws, whichever draft is forced at whichever place, texts come as often as they should
    (chi-square), and they are the very texts that the same seeds give without drafts.
    """
    params, allowed = CASES[case]

    def chain(seed: int, forced: Sequence[int]) -> Chain:
        return Chain(params, seed, forced, None if allowed is None else FakeConstraint(allowed, VOCAB))

    chains = [chain(seed, forced_drafts(seed)) for seed in range(NUM_SEQUENCES)]
    texts, probabilities = drawn(backend, chains), expected(params, allowed)
    assert_distributed(texts, probabilities)
    for place, draft in product(range(NUM_TOKENS - 1), range(VOCAB)):
        forced = [seed for seed in range(NUM_SEQUENCES) if forced_drafts(seed)[place] == draft]
        assert_distributed(texts[forced], probabilities)
    plain = drawn(backend, [chain(seed, ()) for seed in range(0, NUM_SEQUENCES, 13)])
    np.testing.assert_array_equal(plain, texts[::13])


def test_the_check_notices_a_small_bias() -> None:
    """Texts of which every fiftieth keeps its first draft without reason would not pass."""
    params, _ = CASES["a nucleus"]
    probabilities = expected(params, None)
    rng = np.random.default_rng(1)
    numbers = rng.choice(probabilities.size, NUM_SEQUENCES, p=probabilities.reshape(-1))
    texts = np.stack(np.unravel_index(numbers, probabilities.shape), axis=1)
    assert_distributed(texts, probabilities)
    texts[::50, 0] = np.arange(0, NUM_SEQUENCES, 50) // 50 % VOCAB
    with pytest.raises(AssertionError):
        assert_distributed(texts, probabilities)


def random_chains(rng: random.Random) -> Iterator[Chain]:
    """Chains of all kinds of parameters, with and without drafts."""
    for seed in range(60):
        fields: dict[str, Any] = rng.choice(
            [
                {},
                {"temperature": 0.0},
                {"temperature": 0.0, "logit_bias": {2: 3.0}},
                {"temperature": 2.0, "top_k": 3, "num_top_logprobs": 2},
                {"top_p": 0.4, "frequency_penalty": 1.0},
                {"repetition_penalty": 1.7, "num_top_logprobs": 0},
            ]
        )
        forced = rng.choices(range(VOCAB), k=rng.randint(0, 2))
        constraint = FakeConstraint([[1, 2, 3], [4, 5, 6, 7]], VOCAB) if rng.random() < 0.3 else None
        yield Chain(SamplingParams(**fields), seed, forced, constraint)


def test_each_row_has_the_parameters_of_its_own_request(backend: Backend) -> None:
    """In a pass of requests of all kinds, of which some have drafts, each gets what it gets alone."""
    together = drawn(backend, list(random_chains(random.Random(2)))).tolist()
    alone = [drawn(backend, [chain]).tolist()[0] for chain in random_chains(random.Random(2))]
    without = [Chain(one.params, one.seed, (), one.constraint) for one in random_chains(random.Random(2))]
    assert together == alone == drawn(backend, without).tolist()
    assert len({tuple(text) for text in together}) > 12


def test_logprobs_of_drafts_are_the_models_own(backend: Backend) -> None:
    """Each token has the logprob of its own row, before any parameter is applied."""
    chains = [
        Chain(SamplingParams(top_p=0.6, num_top_logprobs=VOCAB), seed, forced_drafts(seed))
        for seed in range(300)
    ]
    logprobs = TABLE - np.log(np.exp(TABLE.astype(np.float64)).sum(axis=1, keepdims=True))
    lengths = set()
    for result in backend.run([chain.step() for chain in chains]):
        lengths.add(len(result.token_ids))
        assert [entry.token_id for entry in result.logprobs] == list(result.token_ids)
        before = [PROMPT[-1], *result.token_ids]
        for last, entry in zip(before, result.logprobs, strict=False):
            assert entry.logprob == pytest.approx(logprobs[last, entry.token_id], abs=1e-5)
            assert dict(entry.top) == pytest.approx(dict(enumerate(logprobs[last])), abs=1e-5)
    assert lengths == {1, 2, 3}


@pytest.mark.parametrize(
    ("forced", "expected_ids"),
    [([2, 3, 1], [2, 3, 1, 0]), ([2, 2, 2], [2, 3]), ([2, 3, 3], [2, 3, 1]), ([3], [2]), ([], [2])],
)
def test_penalties_count_the_drafts_before_a_row(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, forced: list[int], expected_ids: list[int]
) -> None:
    """With a penalty that lets no token come twice, each row is penalized for the drafts before it, and not
    for those behind.
    """
    row = np.array([1.0, 2.0, 4.0, 3.0, 0.0, -1.0, -2.0, -3.0], np.float32)
    monkeypatch.setattr(backend, "forward", lambda _steps, rows: np.tile(row, (len(rows), 1)))
    params = SamplingParams(temperature=0.0, frequency_penalty=50.0)
    (result,) = backend.run([Chain(params, 0, forced).step()])
    assert list(result.token_ids) == expected_ids


@pytest.mark.parametrize("seed", range(3))
def test_greedy_drafts_need_no_random_number(backend: Backend, seed: int) -> None:
    """At temperature 0 a draft is kept if and only if it is the likeliest token, whatever the seed."""
    best = TABLE.argmax(axis=1)
    likely = [int(best[PROMPT[-1]])]
    likely += [int(best[likely[0]])]
    for forced in product(range(VOCAB), repeat=2):
        (result,) = backend.run([Chain(SamplingParams(temperature=0.0), seed, forced).step()])
        num_kept = 0 if forced[0] != likely[0] else 1 + (forced[1] == likely[1])
        assert len(result.token_ids) == 1 + num_kept
        assert list(result.token_ids) == [*likely, int(best[likely[1]])][: 1 + num_kept]


def test_a_draft_that_is_not_allowed_fails_no_request(backend: Backend) -> None:
    """Neither does one behind which nothing may follow: the output ends with what is allowed."""
    allowed = [[2, 3], [5], [1]]
    for forced, length in (((6, 5), 3), ((2, 6), 3), ((2, 5), 2), ((3, 5), 2), ((2, 5), 1)):
        constraint = FakeConstraint(allowed, VOCAB, length)
        (result,) = backend.run([Chain(SamplingParams(), 1, forced, constraint).step()])
        assert result.error is None
        assert 1 <= len(result.token_ids) <= length
        constraint.accept(result.token_ids)
