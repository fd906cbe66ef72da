"""A sequence's results do not depend on the steps in which it was computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from mlc_serve.engine.backend import Backend, SequenceStep, StepResult, TokenLogprobs
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.runtime.runner import TVMBackend
from mlc_serve.testing import FakeConstraint

ROUNDING = 1e-4  # nats
GREEDY = SamplingParams(temperature=0.0, num_top_logprobs=5)


@pytest.fixture
def backend(tiny_model: LoadedModel) -> Backend:
    """The small model with an empty KV cache."""
    tiny_model.backend.state.clear()
    return tiny_model.backend


def tokens(length: int, seed: int = 0) -> list[int]:
    """A random prompt."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 500, length)]


def step(seq_id: int, ids: Sequence[int]) -> SequenceStep:
    """A step that appends the ids and draws the likeliest token."""
    return SequenceStep(seq_id, ids, [Draw(GREEDY, (1,), (), 0)])


def continued(backend: Backend, seq_id: int, pieces: Sequence[Sequence[int]]) -> StepResult:
    """Append the pieces one after another, and draw after the last."""
    for piece in pieces[:-1]:
        assert backend.run([SequenceStep(seq_id, piece)]) == [StepResult()]
    (result,) = backend.run([step(seq_id, pieces[-1])])
    return result


def alone(backend: Backend, ids: Sequence[int]) -> StepResult:
    """The draw after a prompt that is computed in one pass, by itself."""
    backend.state.add_sequence(99)
    result = continued(backend, 99, [ids])
    backend.state.remove_sequence(99)
    return result


def assert_same(one: StepResult, other: StepResult) -> None:
    """Check that both drew from the same distribution; equally likely tokens may differ by rounding."""
    assert len(one.logprobs) == 1
    assert_same_scores(one.logprobs, other.logprobs)


def assert_same_scores(some: Sequence[TokenLogprobs], others: Sequence[TokenLogprobs]) -> None:
    """Check that the logprobs of the token and of the likeliest ones agree, up to rounding."""
    for one, other in zip(some, others, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=ROUNDING)
        assert_same_top(one.top, other.top)


def assert_same_top(one: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> None:
    """Check that logprobs agree in order, and tokens too, but for the last, which may be equally likely."""
    assert [logprob for _, logprob in one] == pytest.approx([logprob for _, logprob in other], abs=ROUNDING)
    beyond_doubt = {token for token, logprob in one if logprob > one[-1][1] + 2 * ROUNDING}
    assert beyond_doubt <= {token for token, _ in other}


@pytest.mark.parametrize("lengths", [[50, 10], [16, 16, 16, 12], [1, 59], [59, 1], [1] * 60], ids=str)
def test_pieces_are_the_whole(backend: Backend, lengths: list[int]) -> None:
    """A prompt in chunks, or token by token as in decode, gives the same draw as in one pass."""
    ids = tokens(60)
    ends = np.cumsum(lengths)
    backend.state.add_sequence(0)
    pieces = [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    assert_same(continued(backend, 0, pieces), alone(backend, ids))


def test_a_sequence_of_one_token(backend: Backend) -> None:
    """A prompt of one token gives a draw, and its sequence can go on."""
    backend.state.add_sequence(0)
    assert_same(continued(backend, 0, [[42]]), alone(backend, [42]))
    assert_same(continued(backend, 0, [[43]]), alone(backend, [42, 43]))


def test_a_batch_is_its_sequences_alone(backend: Backend) -> None:
    """Prefills of all lengths and a decode in one pass, then a decode of all, give what each gives alone."""
    prompts = [tokens(length, seed=length) for length in (1, 5, 16, 33, 100)]
    for seq_id in range(len(prompts)):
        backend.state.add_sequence(seq_id)
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
    """Steps without a draw have an empty result, whether they have one token or several."""
    for seq_id in range(3):
        backend.state.add_sequence(seq_id)
    for count in (4, 1):
        steps = [SequenceStep(seq_id, tokens(count)) for seq_id in range(3)]
        assert backend.run(steps) == [StepResult()] * 3


def test_a_fork_and_its_parent_go_on_apart(backend: Backend) -> None:
    """Both continue as if each had computed the shared prefix itself, in the same pass and alone."""
    ids, branch = tokens(40), tokens(12, seed=1)
    backend.state.add_sequence(0)
    continued(backend, 0, [ids])
    backend.state.fork_sequence(0, 1, 32)
    child, parent = backend.run([step(1, branch), step(0, [8])])
    assert_same(child, alone(backend, ids[:32] + branch))
    assert_same(parent, alone(backend, [*ids, 8]))
    backend.state.remove_sequence(0)
    assert_same(continued(backend, 1, [[9]]), alone(backend, [*ids[:32], *branch, 9]))


def test_a_fork_of_the_whole_parent_goes_on_apart(backend: Backend) -> None:
    """A parent and a fork of all its tokens write into no page that they share, so that both continue as if
    each had computed everything itself.
    """
    ids, branch = tokens(32), tokens(12, seed=1)
    backend.state.add_sequence(0)
    continued(backend, 0, [ids])
    backend.state.fork_sequence(0, 1, 32)
    continued(backend, 0, [[8]])
    assert_same(continued(backend, 1, [branch]), alone(backend, ids + branch))
    assert_same(continued(backend, 0, [[9]]), alone(backend, [*ids, 8, 9]))


def test_popped_tokens_are_forgotten(backend: Backend) -> None:
    """Tokens appended after a pop replace those that were popped."""
    ids = tokens(30)
    backend.state.add_sequence(0)
    continued(backend, 0, [ids])
    backend.state.pop(0, 11)
    assert_same(continued(backend, 0, [[3, 4]]), alone(backend, [*ids[:19], 3, 4]))


def test_scored_steps_tell_what_plain_ones_do(backend: Backend) -> None:
    """The logprob of each known token is the same whether steps are scored in pieces or at once, beside plain
    steps, and the draw at the end is that of a plain step.
    """
    ids = tokens(150)  # more than the rows that are scored at a time
    expected: list[TokenLogprobs] = []
    backend.state.add_sequence(0)
    for token, target in pairwise(ids):
        (result,) = backend.run([SequenceStep(0, [token], targets=[target], num_top_logprobs=2)])
        expected += result.target_logprobs
    backend.state.add_sequence(1)
    backend.state.add_sequence(2)
    draw = Draw(GREEDY, ids, (), 0)
    scored = SequenceStep(1, ids, [draw], targets=[*ids[1:], None], num_top_logprobs=2)

    result, plain = backend.run([scored, step(2, ids[:10])])

    assert_same_scores(result.target_logprobs, expected)
    assert_same(result, alone(backend, ids))
    assert_same(plain, alone(backend, ids[:10]))


def test_results_come_in_the_order_of_the_steps(backend: Backend) -> None:
    """The results of scored steps, which run apart from the others, come in their place."""
    for seq_id in range(3):
        backend.state.add_sequence(seq_id)
    results = backend.run(
        [SequenceStep(0, [5, 6], targets=[6, None]), SequenceStep(1, [5]), step(2, [5, 6, 7])]
    )
    assert [len(result.target_logprobs) for result in results] == [1, 0, 0]
    assert [len(result.token_ids) for result in results] == [0, 0, 1]


def test_wishes_on_the_logits_hold(backend: Backend) -> None:
    """Biased, penalized and sampled rows may share a pass with plain ones; all logprobs stay the model's. The
    penalties are on the likeliest token, so that the second is drawn.
    """
    plain = alone(backend, [5, 6, 7])
    ((first, _), second, *_) = plain.logprobs[0].top
    penalties: dict[str, float] = {"repetition_penalty": 1.5, "frequency_penalty": 100.0}
    wishes = [
        GREEDY,
        SamplingParams(logit_bias={77: 100.0}, top_p=0.9, num_top_logprobs=3),
        SamplingParams(temperature=0.0, num_top_logprobs=3, **penalties),  # type: ignore[arg-type]
        SamplingParams(top_k=1, num_top_logprobs=0),
    ]
    for seq_id in range(len(wishes)):
        backend.state.add_sequence(seq_id)
    draws = [Draw(params, (5, 6), (first,) if params.frequency_penalty else (), 0) for params in wishes]
    results = backend.run([SequenceStep(i, [5, 6, 7], [draw]) for i, draw in enumerate(draws)])
    assert_same(results[0], plain)
    assert results[1].token_ids == (77,)
    (likeliest,), *others = (result.logprobs for result in (plain, *results[1:]))
    (biased,), (penalized,), (chosen,) = others
    assert results[2].token_ids == (second[0],)
    assert penalized.logprob == pytest.approx(second[1], abs=ROUNDING)
    assert_same_top(penalized.top, likeliest.top[:3])
    assert chosen.logprob == pytest.approx(likeliest.logprob, abs=ROUNDING)
    assert_same_top(biased.top, likeliest.top[:3])
    assert biased.logprob < likeliest.top[0][1]


def test_drafts_are_kept_as_far_as_they_would_have_been_drawn(backend: Backend) -> None:
    """One pass over drafts gives the tokens and logprobs of one pass per token, whichever draft is the first
    wrong one; wrong drafts can be popped, and leave nothing behind.
    """
    prompt = tokens(40)
    params = SamplingParams(temperature=1.0, frequency_penalty=0.5, num_top_logprobs=2)
    backend.state.add_sequence(0)
    expected: list[int] = []
    scores: list[TokenLogprobs] = []
    pending = prompt
    for _ in range(5):
        (result,) = backend.run([SequenceStep(0, pending, [Draw(params, prompt, list(expected), 3)])])
        expected += result.token_ids
        scores += result.logprobs
        pending = [expected[-1]]
    for num_right in range(4):
        backend.state.add_sequence(1)
        backend.run([SequenceStep(1, prompt[:-1])])
        wrong = [(token + 1) % 500 for token in expected]
        drafts = [*expected[:num_right], *wrong[num_right:3]]
        first = Draw(params, prompt, (), 3)
        draws = [first, *(first.after(drafts[:count]) for count in (1, 2, 3))]
        (result,) = backend.run([SequenceStep(1, prompt[-1:], draws, drafts)])
        assert list(result.token_ids) == expected[: num_right + 1]
        assert_same_scores(result.logprobs, scores[: num_right + 1])
        if num_right < 3:
            backend.state.pop(1, 3 - num_right)
        goes_on = Draw(params, prompt, expected[: num_right + 1], 3)
        (result,) = backend.run([SequenceStep(1, [expected[num_right]], [goes_on])])
        assert list(result.token_ids) == [expected[num_right + 1]]
        backend.state.remove_sequence(1)


def scores(backend: Backend, ids: Sequence[int], candidates: Sequence[int]) -> dict[int, float]:
    """The model's logprob of each candidate after a prompt."""
    targets = [None] * (len(ids) - 1)
    found: dict[int, float] = {}
    for candidate in candidates:
        backend.state.add_sequence(99)
        (result,) = backend.run([SequenceStep(99, [*ids, candidate], targets=[*targets, candidate, None])])
        backend.state.remove_sequence(99)
        found[candidate] = result.target_logprobs[0].logprob
    return found


def test_a_constraint_leaves_its_tokens_alone(backend: Backend, tiny_model: LoadedModel) -> None:
    """The likeliest of the allowed tokens is drawn, also behind a draft; logprobs stay the model's, and a
    constraint that fails or allows nothing ends only its own request.
    """
    vocab_size = tiny_model.info.vocab_size
    for seq_id in range(4):
        backend.state.add_sequence(seq_id)
    allowed = FakeConstraint([[70, 71, 72, 73], [80, 81, 82, 83]], vocab_size)
    nothing = FakeConstraint([[]], vocab_size)
    misshapen = FakeConstraint([[10]], 7)
    draws = [Draw(GREEDY, (5, 6, 7), (), 0, constraint) for constraint in (None, allowed, nothing, misshapen)]
    steps = [SequenceStep(i, [5, 6, 7], [draw]) for i, draw in enumerate(draws)]
    plain, chosen, without, failed = backend.run(steps)
    assert_same(plain, alone(backend, [5, 6, 7]))
    first = scores(backend, [5, 6, 7], [70, 71, 72, 73])
    (likeliest,) = chosen.token_ids
    assert likeliest == max(first, key=first.__getitem__)
    assert chosen.logprobs[0].logprob == pytest.approx(first[likeliest], abs=ROUNDING)
    assert_same_top(chosen.logprobs[0].top, plain.logprobs[0].top)
    assert chosen.error is None
    assert without.error == "the request's constraint leaves no token to choose from"
    assert failed.error

    backend.state.add_sequence(4)
    drafted = [draws[1], draws[1].after([likeliest])]
    (behind,) = backend.run([SequenceStep(4, [5, 6, 7], drafted, [likeliest])])
    second = scores(backend, [5, 6, 7, likeliest], [80, 81, 82, 83])
    assert behind.token_ids == (likeliest, max(second, key=second.__getitem__))
    assert behind.logprobs[1].logprob == pytest.approx(second[behind.token_ids[1]], abs=ROUNDING)
    assert_same_top(behind.logprobs[1].top, alone(backend, [5, 6, 7, likeliest]).logprobs[0].top)


@pytest.mark.parametrize("num_held", [5, 30, 250])
def test_a_pass_over_drafts_gives_the_logits_of_decoding(backend: Backend, num_held: int) -> None:
    """To the last bit, for a sequence that runs alone: so greedy output is the same with drafts, even where
    two tokens are equally likely but for rounding.
    """
    ids, new = tokens(num_held), tokens(9, seed=1)
    for seq_id in (0, 1):
        backend.state.add_sequence(seq_id)
        backend.run([SequenceStep(seq_id, ids)])
    assert isinstance(backend, TVMBackend)
    one_by_one = [backend.forward([SequenceStep(0, [token])], [0]).copy() for token in new]
    together = backend.forward([SequenceStep(1, new[:1], draft_ids=new[1:])], list(range(len(new))))
    np.testing.assert_array_equal(together, np.concatenate(one_by_one))


def test_exported_pages_are_the_sequence(backend: Backend) -> None:
    """A sequence that goes on with the pages of another, of which it shares the first and imports the others
    into other places, draws the same, to the last bit: also after all others have gone.
    """
    kv, ids = backend.state, tokens(70)
    kv.add_sequence(0)
    continued(backend, 0, [ids[:64]])
    pages = kv.export_pages(0, 0, 64)
    expected = continued(backend, 0, [ids[64:]])
    kv.clear()
    kv.add_sequence(7)
    continued(backend, 7, [tokens(20, seed=1)])
    kv.add_sequence(0)
    kv.import_pages(0, pages.part(0, 32))
    kv.fork_sequence(0, 1, 16)
    kv.import_pages(1, pages.part(16, 64))
    assert kv.num_pages - kv.num_free_pages == 2 + 2 + 3
    kv.remove_sequence(7)
    kv.remove_sequence(0)
    assert continued(backend, 1, [ids[64:]]) == expected
    kv.clear()
    assert kv.num_free_pages == kv.num_pages
