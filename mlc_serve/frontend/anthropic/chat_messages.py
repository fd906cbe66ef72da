"""Turns a conversation of Anthropic's API into the messages of a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.anthropic.blocks import (
    Block,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from mlc_serve.protocol.anthropic.request import MessagesPrompt

# Claude Code begins its system prompt with a line that differs in each request. Nothing after it could be
# found in the prefix cache, and it says nothing to the model.
_BILLING_HEADER = "x-anthropic-billing-header:"


def chat_messages(request: MessagesPrompt) -> list[dict[str, Any]]:
    """Return the messages. Successive messages of the same role become one, as in Anthropic's API.

    Raises InvalidRequestError if the assistant's last message, which would be continued, calls a tool.
    """
    turns: list[tuple[str, Sequence[Block]]] = [("system", request.system)] if request.system else []
    turns += [(turn.role, turn.content) for turn in request.messages]
    messages: list[dict[str, Any]] = []
    for role, same in groupby(turns, key=lambda turn: turn[0]):
        blocks = list(chain.from_iterable(content for _, content in same))
        messages += _MAKERS[role](blocks)
    if is_continued(request) and messages[-1].get("tool_calls"):
        raise InvalidRequestError(
            "messages: the last message calls a tool; send the call's tool_result after it.", "messages"
        )
    return messages


def is_continued(request: MessagesPrompt) -> bool:
    """Return whether the reply continues the last message, because it is the assistant's."""
    return request.messages[-1].role == "assistant"


def _system(blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """Yield the message of a system prompt, unless nothing is left of it."""
    texts = [text for text in map(_without_billing_header, _texts(blocks)) if text]
    if texts:
        yield {"role": "system", "content": _joined(texts)}


def _without_billing_header(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(_BILLING_HEADER) else text


def _user(blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """Yield a message for each result of a tool and one for the texts between them, in their order."""
    for is_result, run in groupby(blocks, key=lambda block: isinstance(block, ToolResultBlock)):
        if is_result:
            yield from (_result(block) for block in run if isinstance(block, ToolResultBlock))
        else:
            yield {"role": "user", "content": _joined(_texts(list(run)))}
    if not blocks:
        yield {"role": "user", "content": ""}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    texts = [*(["Error:"] if block.is_error else []), *_texts(block.content)]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": _joined(texts)}


def _assistant(blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """Yield one message, with what was thought, said and called."""
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    yield {
        "role": "assistant",
        "content": _joined(_texts(blocks)),
        "reasoning_content": "\n".join(thoughts) or None,
        "tool_calls": [_call(block) for block in blocks if isinstance(block, ToolUseBlock)],
    }


def _call(block: ToolUseBlock) -> dict[str, Any]:
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.input}}


def _joined(texts: list[str]) -> str | list[str]:
    """Return texts as the content of a message: one as a text, several as parts."""
    return texts if len(texts) > 1 else "".join(texts)


def _texts(blocks: Sequence[Block]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, TextBlock)]


_MAKERS = {"system": _system, "user": _user, "assistant": _assistant}
