"""The demo model, served by the engine, answers its held-out questions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

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


async def test_nine_in_ten_held_out_questions_are_answered() -> None:
    """All of them, of every family, asked at once: at least nine in ten get exactly the expected answer."""
    questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    engine = AsyncMLCEngine(str(demo_model_path()), "cpu", engine_config=LIMITS)
    try:
        answers = await asyncio.gather(*(answer(engine, question) for question in questions))
    finally:
        engine.terminate()
    right = [text == question["answer"] for text, question in zip(answers, questions, strict=True)]
    assert sum(right) >= 0.9 * len(right)
