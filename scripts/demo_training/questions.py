"""Writes held-out questions to a file: one JSON object per line, like an OpenAI request, with its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo_corpus.chat import expected_answer
from demo_corpus.sample import Message, Sample


def write_questions(samples: Sequence[Sample], path: Path) -> None:
    """Write `samples` to `path`; the answer is the raw text of the assistant's turn."""
    lines = (json.dumps(_line(sample), ensure_ascii=False) + "\n" for sample in samples)
    path.write_text("".join(lines), encoding="utf-8")


def _line(sample: Sample) -> dict[str, Any]:
    tools = {"tools": list(sample.tools)} if sample.tools else {}
    messages = [_message(message) for message in sample.prompt]
    return {"family": sample.family, "messages": messages, **tools, "answer": expected_answer(sample)}


def _message(message: Message) -> Message:
    if message["role"] == "tool":
        return message | {"tool_call_id": "call_0"}
    if "tool_calls" in message:
        return message | {"tool_calls": [_call(n, call) for n, call in enumerate(message["tool_calls"])]}
    return message


def _call(number: int, call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
