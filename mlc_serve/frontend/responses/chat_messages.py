"""Turns the items of a conversation into the messages of a chat. Pure functions.

A chat's assistant message holds what are several items here: reasoning, a text and calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlc_serve.protocol.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputMessage,
    Item,
    ReasoningItem,
)

Message = dict[str, Any]


def chat_messages(items: Iterable[Item]) -> list[Message]:
    """Return the messages, as fields of a chat request."""
    messages: list[Message] = []
    for item in items:
        if isinstance(item, FunctionCallOutput):
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
        elif isinstance(item, InputMessage) and item.role != "assistant":
            messages.append({"role": item.role, "content": item.content})
        else:
            _add_to_turn(messages, item)
    return messages


def _add_to_turn(messages: list[Message], item: InputMessage | FunctionCall | ReasoningItem) -> None:
    """Add an item of the assistant to its last message, or to a new one if it can't be part of that."""
    last = messages[-1] if messages else None
    if last is None or last["role"] != "assistant" or not _fits(last, item):
        last = {"role": "assistant", "content": None}
        messages.append(last)
    if isinstance(item, ReasoningItem):
        last["reasoning_content"] = last.get("reasoning_content", "") + item.text
    elif isinstance(item, FunctionCall):
        function = {"name": item.name, "arguments": item.arguments}
        last.setdefault("tool_calls", []).append({"id": item.call_id, "function": function})
    else:
        last["content"] = item.content if last["content"] is None else _texts(last) + _texts(item)


def _fits(message: Message, item: InputMessage | FunctionCall | ReasoningItem) -> bool:
    """Return whether the item belongs to the message. Reasoning comes first. A second text belongs to it only
    if it follows a call, as the text of one reply may do; two texts in a row are two messages.
    """
    if isinstance(item, ReasoningItem):
        return message["content"] is None and "tool_calls" not in message
    return isinstance(item, FunctionCall) or message["content"] is None or "tool_calls" in message


def _texts(of: Message | InputMessage) -> list[str]:
    content = of.content if isinstance(of, InputMessage) else of["content"]
    return [content] if isinstance(content, str) else content
