"""The test doubles, as a fake is useless if it does not notice faults."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.testing import (
    BOS_ID,
    EOS_ID,
    IM_START_ID,
    FakeBackend,
    FakeKVCache,
    byte_tokenizer,
    fake_model,
    replay,
)
from tests.prompts import prompt_of


def draw(prompt: bytes = b"", output: bytes = b"", seed: int = 0, **params: object) -> Draw:
    """A draw; greedy unless said otherwise."""
    sampling = SamplingParams(**({"temperature": 0.0} | params))  # type: ignore[arg-type]
    return Draw(sampling, prompt, output, seed)


def next_token(prompt: bytes, wanted: Draw | None = None) -> int | None:
    """What a new FakeBackend writes after a prompt."""
    backend = FakeBackend()
    backend.state.add_sequence(0)
    (result,) = backend.run([SequenceStep(0, prompt, [wanted or draw(prompt)])])
    return result.token_ids[0] if result.token_ids else None


def test_the_next_token_depends_on_all_that_is_stored() -> None:
    """The same tokens give the same token; another first, middle or last token, or one more, gives others."""
    assert next_token(b"hello") == next_token(b"hello")
    others = [next_token(prompt) for prompt in (b"jello", b"heelo", b"hell!", b"hello!", b"hell", b"ehllo")]
    assert next_token(b"hello") not in others


def test_the_way_to_the_same_tokens_does_not_matter() -> None:
    """One step, several, or a fork from another sequence: the same tokens stored give the same next token."""
    backend = FakeBackend(page_size=4)
    backend.state.add_sequence(0)
    backend.run([SequenceStep(0, b"hello, wo")])
    backend.state.fork_sequence(0, 1, 8)
    pieces = backend.run([SequenceStep(0, b"rld", [draw()]), SequenceStep(1, b"orld", [draw()])])
    assert {result.token_ids for result in pieces} == {(next_token(b"hello, world"),)}


def test_sampled_tokens_depend_on_seed_and_position() -> None:
    """Above temperature 0 seeds differ, and a draw with the same seed at the same place is the same."""
    tokens = [next_token(b"hello", draw(seed=seed, temperature=1.0)) for seed in range(4)]
    assert len(set(tokens)) == 4
    assert tokens[2] == next_token(b"hello", draw(seed=2, temperature=1.0))


def test_bias_and_min_tokens_are_honoured() -> None:
    """A bias of 100 forces a token, one of -100 bans it, and stop tokens are banned before min_tokens."""
    likeliest = next_token(b"hello")
    assert likeliest is not None
    assert next_token(b"hello", draw(logit_bias={EOS_ID: 100})) == EOS_ID
    assert next_token(b"hello", draw(logit_bias={likeliest: -100})) != likeliest
    assert next_token(b"hello", draw(stop_token_ids=frozenset({likeliest}), min_tokens=1)) != likeliest


def test_logprobs_are_those_of_one_distribution() -> None:
    """The greedy token is the likeliest, alternatives are in order, and targets have one entry each."""
    backend = FakeBackend()
    backend.state.add_sequence(0)
    step = SequenceStep(
        0, b"abc", [draw(num_top_logprobs=3)], targets=[ord("b"), ord("c"), None], num_top_logprobs=1
    )
    (result,) = backend.run([step])
    (drawn,) = result.logprobs
    assert drawn.top[0] == (*result.token_ids, drawn.logprob)
    assert [logprob for _, logprob in drawn.top] == sorted((value for _, value in drawn.top), reverse=True)
    assert [entry.token_id for entry in result.target_logprobs] == list(b"bc")


def test_replay_answers_with_a_script() -> None:
    """The script comes token by token, then the end token for ever."""
    backend = FakeBackend(choose=replay(b"Hi"))
    backend.state.add_sequence(0)
    token_ids: list[int] = []
    pending = list(b"hello")
    for _ in range(4):
        (result,) = backend.run([SequenceStep(0, pending, [draw(b"hello")])])
        token_ids += result.token_ids
        pending = list(result.token_ids)
    assert token_ids == [*b"Hi", EOS_ID, EOS_ID]


def test_failures_come_where_they_are_asked_for() -> None:
    """fail_on fails the draw after a token; crash_on fails the whole run and leaves the cache as it was."""
    backend = FakeBackend()
    backend.state.add_sequence(0)
    backend.fail_on, backend.crash_on = {ord("!")}, {ord("?")}
    (result,) = backend.run([SequenceStep(0, b"oh!", [draw()])])
    assert result.token_ids == ()
    assert result.error
    with pytest.raises(RuntimeError, match="crashes"):
        backend.run([SequenceStep(0, b"oh?")])
    assert backend.state.num_tokens(0) == 3


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([], "empty batch"),
        ([SequenceStep(0, [])], "without tokens"),
        ([SequenceStep(0, b"a"), SequenceStep(0, b"b")], "twice"),
        ([SequenceStep(0, bytes(9))], "too many tokens"),
        ([SequenceStep(0, b"a"), SequenceStep(1, b"a"), SequenceStep(2, b"a")], "too many sequences"),
        ([SequenceStep(0, bytes(4)), SequenceStep(1, bytes(4))], "more pages"),
        ([SequenceStep(7, b"a")], "no sequence 7"),
    ],
)
def test_a_batch_that_a_real_backend_could_not_take_is_refused(steps: list[SequenceStep], fault: str) -> None:
    """Limits and pages are checked before anything is stored."""
    backend = FakeBackend(page_size=4, num_pages=1, max_batch_tokens=8, max_batch_sequences=2)
    for seq_id in range(3):
        backend.state.add_sequence(seq_id)
    with pytest.raises(RuntimeError, match=fault):
        backend.run(steps)
    assert backend.state.num_free_pages == 1


def test_a_closed_gate_holds_run() -> None:
    """A run sets `entered`, and then waits until the gate is open. An open gate does not hold it."""
    backend = FakeBackend()
    backend.state.add_sequence(0)
    assert not backend.entered.is_set()
    backend.run([SequenceStep(0, b"a")])
    assert backend.entered.is_set()
    backend.entered.clear()
    backend.gate.clear()
    happened: list[str] = []

    def run() -> None:
        backend.run([SequenceStep(0, b"b")])
        happened.append("run")

    held = threading.Thread(target=run)
    held.start()
    backend.entered.wait()
    happened.append("opened")
    backend.gate.set()
    held.join()
    assert happened == ["opened", "run"]


def test_pages_are_shared_by_forks_and_freed_with_the_last_holder() -> None:
    """A fork takes no page until it grows, and keeps what it shares when its parent goes."""
    kv = FakeKVCache(4, 8)
    kv.add_sequence(0)
    kv.append(0, range(10))
    kv.fork_sequence(0, 1, 8)
    assert kv.num_free_pages == 5
    kv.append(1, [99])
    assert kv.num_free_pages == 4
    kv.remove_sequence(0)
    assert kv.num_free_pages == 5
    assert kv.token_ids(1) == [*range(8), 99]


def test_pop_takes_off_what_is_not_shared() -> None:
    """A pop within the sequence's own pages frees them; one into shared pages is refused."""
    kv = FakeKVCache(4, 8)
    kv.add_sequence(0)
    kv.append(0, range(14))
    kv.fork_sequence(0, 1, 8)
    kv.pop(0, 5)
    assert kv.token_ids(0) == list(range(9))
    assert kv.num_free_pages == 5
    with pytest.raises(RuntimeError, match="shares"):
        kv.pop(0, 2)


def test_what_would_corrupt_a_cache_is_refused() -> None:
    """Forks off a page's edge or past the end, ids in use or unknown, and a full cache are RuntimeErrors."""
    kv = FakeKVCache(4, 2)
    kv.add_sequence(0)
    kv.append(0, range(8))
    for length in (0, 3, 12):
        with pytest.raises(RuntimeError, match="fork"):
            kv.fork_sequence(0, 1, length)
    with pytest.raises(RuntimeError, match="in use"):
        kv.add_sequence(0)
    with pytest.raises(RuntimeError, match="no sequence"):
        kv.remove_sequence(5)
    with pytest.raises(RuntimeError, match="full"):
        kv.append(0, [1])
    kv.clear()
    assert (kv.num_free_pages, kv.seq_ids) == (2, set())


def test_the_byte_tokenizer_is_bytes() -> None:
    """Ids below 256 are bytes both ways; special tokens have other ids, and <s> begins a text if it is asked
    for.
    """
    tokenizer = byte_tokenizer()
    text = "Hé, 你好 🙂\n\x00"
    assert tokenizer.encode(text, add_special_tokens=False) == list(text.encode())
    assert tokenizer.encode("a<|im_start|>", add_special_tokens=True) == [BOS_ID, ord("a"), IM_START_ID]
    assert tokenizer.decode(text.encode()) == text
    assert b"".join(tokenizer.token_bytes(byte) for byte in range(256)) == bytes(range(256))
    assert tokenizer.is_special(EOS_ID)


def test_a_fake_model_keeps_to_the_limits_it_is_given() -> None:
    """Keywords become limits, the cache holds what they say, and the backend checks them."""
    model = fake_model("tiny", max_total_sequence_length=30, max_num_sequence=2, prefill_chunk_size=5)
    assert (model.name, model.limits.max_num_sequence) == ("tiny", 2)
    assert model.backend.state.num_pages == 8
    assert model.limits.max_single_sequence_length == 30
    model.backend.state.add_sequence(0)
    with pytest.raises(RuntimeError, match="too many tokens"):
        model.backend.run([SequenceStep(0, bytes(6))])


def test_a_fake_model_takes_a_backend() -> None:
    """A backend that is passed in is used, and its pages set the capacity."""
    backend = FakeBackend(num_pages=10, choose=replay(b"Hi"))
    model = fake_model(backend=backend)
    assert model.backend is backend
    assert model.limits.max_total_sequence_length == 40


def test_the_fake_chat_template_shows_messages_and_tools() -> None:
    """Roles, contents, tools and earlier calls all reach the prompt."""
    template = fake_model().chat_template
    assert template is not None
    call = {"type": "function", "id": "1", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    prompt = prompt_of(template, messages, [{"type": "function", "function": {"name": "f"}}])
    assert prompt.startswith('<|im_start|>system\nTools: [{"type": "function"')
    assert "<|im_start|>user\nhi<|im_end|>" in prompt
    assert '<tool_call>{"name": "f", "arguments": {}}</tool_call>' in prompt
    assert prompt.endswith("<|im_start|>assistant\n")
