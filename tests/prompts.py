"""A shortcut to a template's prompt as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlc_serve.text.conversation import Conversation, Message, PromptTemplate, Tool


def prompt_of(
    template: PromptTemplate,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None = None,
    *,
    add_generation_prompt: bool = True,
    continues_last: bool = False,
    **variables: Any,
) -> str:
    """The prompt, with control tokens written out. `variables` are the template's."""
    given = [_with_parsed_arguments(message) for message in messages]
    conversation = Conversation(given, tools, variables, add_generation_prompt, continues_last)
    return "".join(piece.text for piece in template.render(conversation))


def _with_parsed_arguments(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    parsed = [function | {"parsed_arguments": json.loads(function["arguments"])} for function in functions]
    return {**message, "tool_calls": [{"type": "function", "function": function} for function in parsed]}
