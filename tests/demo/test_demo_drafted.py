"""The demo model says the same with drafts as without, and keeps many of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.speculation import Speculation

QUESTIONS = Path(__file__).with_name("heldout.jsonl")
EVERY = 4  # of the questions, one in so many is asked here
# The modes that draft with a model: the length of their drafts, and the least share of them that is kept.
MODES = {"small_draft": (3, 0.4), "eagle": (3, 0.4), "medusa": (2, 0.4)}


@dataclass
class Counts:
    """Drafts of all requests, and those that were kept."""

    drafted: int = 0
    kept: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """What the engines of a test tell their speculation."""
    found, committed = Counts(), Speculation.committed

    def counted(speculation: Speculation, request: Request, num_drafts: int, num_kept: int) -> None:
        found.drafted += num_drafts
        found.kept += num_kept
        committed(speculation, request, num_drafts, num_kept)

    monkeypatch.setattr(Speculation, "committed", counted)
    return found


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    """Some held-out questions of each family."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()][::EVERY]


@pytest.fixture(scope="module")
def plain(questions: list[dict[str, Any]]) -> list[str]:
    """The answers without drafts."""
    return asyncio.run(answers(questions, engine_config()))


def engine_config(**settings: Any) -> EngineConfig:
    """The demo model in float32, where no two tokens are so close that rounding decides between them."""
    return EngineConfig(
        quantization="q0f32",
        opt="O0",
        max_num_sequence=8,
        max_total_sequence_length=16384,
        verbose=False,
        **settings,
    )


async def answers(questions: list[dict[str, Any]], config: EngineConfig) -> list[str]:
    """The greedy answers of an engine on the CPU, as JSON."""
    engine = AsyncMLCEngine(str(demo_model_path()), "cpu", engine_config=config)
    try:
        return await asyncio.gather(*(answer(engine, question) for question in questions))
    finally:
        engine.terminate()


async def answer(engine: AsyncMLCEngine, question: dict[str, Any]) -> str:
    """One answer, calls included."""
    tools = {"tools": question["tools"]} if question.get("tools") else {}
    reply = await engine.chat.completions.create(messages=question["messages"], temperature=0, **tools)
    message = reply.choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return json.dumps([message.content, calls, reply.choices[0].finish_reason])


@pytest.mark.parametrize("mode", MODES)
def test_drafts_are_kept_and_change_nothing(
    mode: str, questions: list[dict[str, Any]], plain: list[str], counts: Counts
) -> None:
    """Held-out questions get the very answers that they get without drafts."""
    length, least = MODES[mode]
    config = engine_config(speculative_mode=mode, spec_draft_length=length)
    assert asyncio.run(answers(questions, config)) == plain
    assert counts.drafted > len(questions)
    assert counts.kept >= least * counts.drafted
