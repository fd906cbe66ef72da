"""The demo model, served by the engine, answers its held-out questions: as well in integers as in float32."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.protocol.replies import ChatCompletion

QUESTIONS = Path(__file__).with_name("heldout.jsonl")
LIMITS = EngineConfig(max_num_sequence=16, max_total_sequence_length=16384, verbose=False)


def written(reply: ChatCompletion) -> str:
    """A reply as the model wrote it, calls included."""
    message = reply.choices[0].message
    calls = [
        f'{{"name": "{call.function.name}", "arguments": {call.function.arguments}}}'
        for call in message.tool_calls or []
    ]
    tagged = [f"<tool_call>\n{call}\n</tool_call>" for call in calls]
    return "\n".join([*([message.content.strip()] if message.content else []), *tagged])


async def answer(engine: AsyncMLCEngine, question: dict[str, Any]) -> str:
    """The engine's greedy answer."""
    tools = {"tools": question["tools"]} if question.get("tools") else {}
    reply = await engine.chat.completions.create(messages=question["messages"], temperature=0, **tools)
    return written(reply)


async def answers(questions: list[dict[str, Any]], quantization: str | None) -> list[str]:
    """Of an engine on the CPU, asked one after the other: what else a pass computes, which is a matter of
    time, would decide between tokens that are as good as equally likely. No quantization: the default one.
    """
    config = replace(LIMITS, quantization=quantization)
    engine = AsyncMLCEngine(str(demo_model_path()), "cpu", engine_config=config)
    try:
        return [await answer(engine, question) for question in questions]
    finally:
        engine.terminate()


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    """All held-out questions, of every family."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def by_default(questions: list[dict[str, Any]]) -> list[str]:
    """What the engine answers when nothing is said about quantization."""
    return asyncio.run(answers(questions, None))


def test_nine_in_ten_held_out_questions_are_answered(
    questions: list[dict[str, Any]], by_default: list[str]
) -> None:
    """At least nine in ten get exactly the expected answer."""
    right = [text == question["answer"] for text, question in zip(by_default, questions, strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_the_default_quantization_changes_no_answer(
    questions: list[dict[str, Any]], by_default: list[str]
) -> None:
    """Every greedy answer, right or wrong, is the one that float32 gives."""
    assert by_default == asyncio.run(answers(questions, "q0f32"))
