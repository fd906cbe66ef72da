"""A sequence's tokens do not depend on how they were computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from mlc_serve.engine.backend import Backend, SequenceStep, StepResult, TokenLogprobs
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.loaded_model import LoadedModel

ROUNDING = 1e-4  # nats
GREEDY = SamplingParams(temperature=0.0, num_top_logprobs=5)


@pytest.fixture
def backend(tiny_model: LoadedModel) -> Backend:
    """The small model with an empty cache."""
    tiny_model.backend.kv.clear()
    return tiny_model.backend


def tokens(length: int, seed: int = 0) -> list[int]:
    """A prompt."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 500, length)]


def step(seq_id: int, ids: Sequence[int]) -> SequenceStep:
    """Append and draw the likeliest."""
    return SequenceStep(seq_id, ids, Draw(GREEDY, (1,), (), 0))


def continued(backend: Backend, seq_id: int, pieces: Sequence[Sequence[int]]) -> StepResult:
    """Append the pieces one after another, and draw after the last."""
    for piece in pieces[:-1]:
        assert backend.run([SequenceStep(seq_id, piece)]) == [StepResult()]
    (result,) = backend.run([step(seq_id, pieces[-1])])
    return result


def alone(backend: Backend, ids: Sequence[int]) -> StepResult:
    """The draw after a prompt that is computed at once, by itself."""
    backend.kv.add_sequence(99)
    result = continued(backend, 99, [ids])
    backend.kv.remove_sequence(99)
    return result


def assert_same(one: StepResult, other: StepResult) -> None:
    """A likeliest token of the same distribution; of those that are equally likely, rounding chooses."""
    assert one.logprobs is not None
    assert other.logprobs is not None
    assert_same_scores([one.logprobs], [other.logprobs])


def assert_same_scores(some: Sequence[TokenLogprobs], others: Sequence[TokenLogprobs]) -> None:
    """The same logprobs, up to rounding, of the token and of the likeliest ones."""
    for one, other in zip(some, others, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=ROUNDING)
        assert_same_top(one.top, other.top)


def assert_same_top(one: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> None:
    """The same logprobs in the same order; the same tokens, but for the last ones, which may be on a par."""
    assert [logprob for _, logprob in one] == pytest.approx([logprob for _, logprob in other], abs=ROUNDING)
    beyond_doubt = {token for token, logprob in one if logprob > one[-1][1] + 2 * ROUNDING}
    assert beyond_doubt <= {token for token, _ in other}


@pytest.mark.parametrize("lengths", [[50, 10], [16, 16, 16, 12], [1, 59], [59, 1], [1] * 60], ids=str)
def test_pieces_are_the_whole(backend: Backend, lengths: list[int]) -> None:
    """A prompt in chunks, or token by token as a decode appends it, is the prompt at once."""
    ids = tokens(60)
    ends = np.cumsum(lengths)
    backend.kv.add_sequence(0)
    pieces = [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    assert_same(continued(backend, 0, pieces), alone(backend, ids))


def test_a_sequence_of_one_token(backend: Backend) -> None:
    """There is nothing before it, and it can go on."""
    backend.kv.add_sequence(0)
    assert_same(continued(backend, 0, [[42]]), alone(backend, [42]))
    assert_same(continued(backend, 0, [[43]]), alone(backend, [42, 43]))


def test_a_batch_is_its_sequences_alone(backend: Backend) -> None:
    """Prefills of all lengths and decodes in one pass, some of which draw nothing; then a decode of all."""
    prompts = [tokens(length, seed=length) for length in (1, 5, 16, 33, 100)]
    for seq_id in range(len(prompts)):
        backend.kv.add_sequence(seq_id)
    backend.run([SequenceStep(0, prompts[0]), SequenceStep(3, prompts[3][:20])])
    mixed = [step(0, [9]), step(1, prompts[1]), SequenceStep(2, prompts[2]), step(3, prompts[3][20:])]

    results = backend.run([*mixed, step(4, prompts[4])])

    assert results[2] == StepResult()
    wholes = [[*prompts[0], 9], *prompts[1:]]
    for i in (0, 1, 3, 4):
        assert_same(results[i], alone(backend, wholes[i]))
    for result, whole in zip(backend.run([step(i, [7]) for i in range(5)]), wholes, strict=True):
        assert_same(result, alone(backend, [*whole, 7]))


def test_a_pass_that_draws_nothing(backend: Backend) -> None:
    """Steps without a draw have an empty result, one token each or several."""
    for seq_id in range(3):
        backend.kv.add_sequence(seq_id)
    for count in (4, 1):
        steps = [SequenceStep(seq_id, tokens(count)) for seq_id in range(3)]
        assert backend.run(steps) == [StepResult()] * 3


def test_a_fork_and_its_parent_go_on_apart(backend: Backend) -> None:
    """Both continue as if each had computed the shared prefix itself, in the same pass and alone."""
    ids, branch = tokens(40), tokens(12, seed=1)
    backend.kv.add_sequence(0)
    continued(backend, 0, [ids])
    backend.kv.fork_sequence(0, 1, 32)
    child, parent = backend.run([step(1, branch), step(0, [8])])
    assert_same(child, alone(backend, ids[:32] + branch))
    assert_same(parent, alone(backend, [*ids, 8]))
    backend.kv.remove_sequence(0)
    assert_same(continued(backend, 1, [[9]]), alone(backend, [*ids[:32], *branch, 9]))


def test_popped_tokens_are_forgotten(backend: Backend) -> None:
    """What is appended after a pop takes their place."""
    ids = tokens(30)
    backend.kv.add_sequence(0)
    continued(backend, 0, [ids])
    backend.kv.pop(0, 11)
    assert_same(continued(backend, 0, [[3, 4]]), alone(backend, [*ids[:19], 3, 4]))


def test_scored_steps_tell_what_plain_ones_do(backend: Backend) -> None:
    """The logprob of each known token is that of drawing it, whether steps are scored in pieces or at once,
    beside plain steps; the draw at their end is the same.
    """
    ids = tokens(150)  # more than the rows that are scored at a time
    expected: list[TokenLogprobs] = []
    backend.kv.add_sequence(0)
    for token, target in pairwise(ids):
        (result,) = backend.run([SequenceStep(0, [token], targets=[target], num_top_logprobs=2)])
        expected += result.target_logprobs
    backend.kv.add_sequence(1)
    backend.kv.add_sequence(2)
    draw = Draw(GREEDY, ids, (), 0)
    scored = SequenceStep(1, ids, draw, targets=[*ids[1:], None], num_top_logprobs=2)

    result, plain = backend.run([scored, step(2, ids[:10])])

    assert_same_scores(result.target_logprobs, expected)
    assert_same(result, alone(backend, ids))
    assert_same(plain, alone(backend, ids[:10]))


def test_results_come_in_the_order_of_the_steps(backend: Backend) -> None:
    """Scored steps run apart from the others, and are put back in their place."""
    for seq_id in range(3):
        backend.kv.add_sequence(seq_id)
    results = backend.run(
        [SequenceStep(0, [5, 6], targets=[6, None]), SequenceStep(1, [5]), step(2, [5, 6, 7])]
    )
    assert [len(result.target_logprobs) for result in results] == [1, 0, 0]
    assert [result.token_id is None for result in results] == [True, True, False]


def test_wishes_on_the_logits_hold(backend: Backend) -> None:
    """Biased, penalized and sampled rows among plain ones, whose logprobs stay the model's."""
    wishes = [
        GREEDY,
        SamplingParams(logit_bias={77: 100.0}, top_p=0.9, num_top_logprobs=3),
        SamplingParams(temperature=0.0, repetition_penalty=1.5, frequency_penalty=2.0),
        SamplingParams(top_k=1, num_top_logprobs=0),
    ]
    for seq_id in range(len(wishes)):
        backend.kv.add_sequence(seq_id)
    results = backend.run(
        [SequenceStep(i, [5, 6, 7], Draw(params, (5, 6, 7), (), 0)) for i, params in enumerate(wishes)]
    )
    plain = alone(backend, [5, 6, 7])
    assert_same(results[0], plain)
    assert results[1].token_id == 77
    assert plain.logprobs is not None
    assert results[3].logprobs is not None
    assert results[3].logprobs.logprob == pytest.approx(plain.logprobs.logprob, abs=ROUNDING)
    assert results[1].logprobs is not None
    assert_same_top(results[1].logprobs.top, plain.logprobs.top[:3])
    assert results[1].logprobs.logprob < plain.logprobs.top[0][1]
