"""The demo model says the same with drafts as without, and keeps many of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.speculation import Speculation

QUESTIONS = Path(__file__).with_name("heldout.jsonl")
EVERY = 4  # of the questions, one in so many is asked here
SEEDS = (1, 2, 3)  # of sampled answers, which one question in `SAMPLED_EVERY` gets
SAMPLED_EVERY = 16
MAX_SAMPLED = 40  # tokens
# The modes that draft with a model: the length of their drafts, and the least share of them that is kept.
MODES = {"small_draft": (3, 0.4), "eagle": (3, 0.4), "medusa": (2, 0.4)}

Question = dict[str, Any]


@dataclass
class Counts:
    """Drafts of all requests, and those that were kept."""

    drafted: int = 0
    kept: int = 0


class Answers(NamedTuple):
    """What one engine answers, and its drafts of each kind of answer. Sampled answers are lists of tokens."""

    greedy: list[str]
    sampled: list[list[str]]
    drafts_of_greedy: Counts
    drafts_of_sampled: Counts


def engine_config(**settings: Any) -> EngineConfig:
    """The demo model in float32, where no two tokens are so close that rounding decides between them."""
    return EngineConfig(
        quantization="q0f32",
        max_num_sequence=8,
        max_total_sequence_length=16384,
        verbose=False,
        **settings,
    )


def questions(every: int) -> list[Question]:
    """One in so many of the held-out questions."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()][::every]


async def answers(config: EngineConfig) -> Answers:
    """The answers of an engine on the CPU."""
    engine = AsyncMLCEngine(str(demo_model_path()), "cpu", engine_config=config)
    try:
        with counting() as of_greedy:
            greedy = await asyncio.gather(*(answer(engine, one) for one in questions(EVERY)))
        with counting() as of_sampled:
            asked = [(question, seed) for question in questions(SAMPLED_EVERY) for seed in SEEDS]
            sampled = await asyncio.gather(*(draw(engine, *one) for one in asked))
    finally:
        engine.terminate()
    return Answers(greedy, sampled, of_greedy, of_sampled)


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what engines tell their speculation in the meantime."""
    counts, committed = Counts(), Speculation.committed

    def counted(speculation: Speculation, request: Request, num_drafts: int, num_kept: int) -> None:
        counts.drafted += num_drafts
        counts.kept += num_kept
        committed(speculation, request, num_drafts, num_kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Speculation, "committed", counted)
        yield counts


async def answer(engine: AsyncMLCEngine, question: Question) -> str:
    """A greedy answer as JSON, calls included."""
    reply = await engine.chat.completions.create(temperature=0, **prompt(question))
    message = reply.choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return json.dumps([message.content, calls, reply.choices[0].finish_reason])


async def draw(engine: AsyncMLCEngine, question: Question, seed: int) -> list[str]:
    """The tokens of a sampled answer."""
    reply = await engine.chat.completions.create(
        temperature=1, seed=seed, max_tokens=MAX_SAMPLED, logprobs=True, **prompt(question)
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    return [entry.token for entry in logprobs.content]


def prompt(question: Question) -> dict[str, Any]:
    """The fields of a request that ask a question."""
    tools = {"tools": question["tools"]} if question.get("tools") else {}
    return {"messages": question["messages"], **tools}


@pytest.fixture(scope="module")
def plain() -> Answers:
    """The answers without drafts."""
    return asyncio.run(answers(engine_config()))


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each of the modes in turn."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def drafted(mode: str) -> Answers:
    """The answers with drafts."""
    length, _ = MODES[mode]
    return asyncio.run(answers(engine_config(speculative_mode=mode, spec_draft_length=length)))


def test_drafts_are_kept_and_change_nothing(mode: str, plain: Answers, drafted: Answers) -> None:
    """Held-out questions get the very answers that they get without drafts."""
    _, least = MODES[mode]
    assert drafted.greedy == plain.greedy
    assert drafted.drafts_of_greedy.drafted > len(plain.greedy)
    assert drafted.drafts_of_greedy.kept >= least * drafted.drafts_of_greedy.drafted


def test_drafts_change_nothing_in_what_is_sampled(plain: Answers, drafted: Answers) -> None:
    """With a seed, each token at temperature 1 is the one that is drawn without drafts, some of which are
    kept and some of which are not. Other seeds give other answers to some questions.
    """
    assert drafted.sampled == plain.sampled
    assert 0 < drafted.drafts_of_sampled.kept < drafted.drafts_of_sampled.drafted
    assert len(set(map(tuple, plain.sampled))) > len(questions(SAMPLED_EVERY))
