"""The demo model, served by the engine, answers its questions, and as well in integers as in float32.

Which of two tokens that are as good as equally likely is drawn depends on the processor's rounding, so that
single answers prove nothing: shares and divergences are what holds on all of them.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from benchmarks.quality import compare
from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.protocol.replies import ChatCompletion
from mlc_serve.quantization.scheme import CPU_DEFAULT
from tests.demo.frameworks import framework_questions

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


async def answers(questions: list[dict[str, Any]]) -> list[str]:
    """Of an engine on the CPU that keeps its weights in the default scheme."""
    engine = AsyncMLCEngine(str(demo_model_path()), "cpu", engine_config=LIMITS)
    try:
        return await asyncio.gather(*(answer(engine, question) for question in questions))
    finally:
        engine.terminate()


def share_right(questions: list[dict[str, Any]]) -> float:
    """The share of questions that get exactly the expected answer."""
    given = asyncio.run(answers(questions))
    expected = [str(question["answer"]) for question in questions]
    return sum(map(str.__eq__, given, expected)) / len(expected)


def test_held_out_questions_are_answered() -> None:
    """At least six in seven get exactly the expected answer."""
    questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    assert share_right(questions) >= 6 / 7


def test_functions_are_called_in_the_schemas_of_frameworks() -> None:
    """Three in four questions lead to exactly the expected call."""
    asked = [
        {"messages": [{"role": "user", "content": q.text}], "tools": [q.tool], "answer": q.answer}
        for q in framework_questions()
    ]
    assert share_right(asked) >= 3 / 4


def test_the_default_quantization_is_as_good_as_float32() -> None:
    """On the held-out answers its distributions are close to float32's, and give them the same perplexity."""
    (row,) = compare(str(demo_model_path()), [CPU_DEFAULT], [None], None)
    assert 0 < float(str(row["kl"])) < 1e-3
    assert float(str(row["rise_pct"])) < 1
