"""Finds function calls in a model's answer as it grows, in the form of the Hermes and Qwen2.5 models.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

One object for one answer; owned by whoever streams it. Knows neither which functions exist nor how calls get
their ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

START_TAG = "<tool_call>"
END_TAG = "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """A function to call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class ToolCallParser:
    """Splits an answer, in whatever portions it comes, into content and calls, in their order.

    What looks like a call but is none (no end tag, no JSON, no name) comes out as content, letter by letter
    as it was. White space that follows a call belongs to the call. Held back are calls that are not complete,
    and the longest end of the text that could begin a tag.
    """

    def __init__(self) -> None:
        self._waiting = ""
        self._in_call = False
        self._after_call = False

    def push(self, text: str) -> list[str | ToolCall]:
        """What this text completes: non-empty pieces of content, and calls."""
        self._waiting += text
        parts: list[str | ToolCall] = []
        while (part := self._next_part()) is not None:
            if part:
                parts.append(part)
        return parts

    def finish(self) -> list[str | ToolCall]:
        """What is left at the end, as content."""
        rest = START_TAG + self._waiting if self._in_call else self._content(self._waiting)
        self._waiting = ""
        self._in_call = False
        return [rest] if rest else []

    def _next_part(self) -> str | ToolCall | None:
        """One more piece off the waiting text, possibly an empty one; None if more text has to come first."""
        return self._next_call() if self._in_call else self._next_content()

    def _next_content(self) -> str | None:
        content, tag, rest = self._waiting.partition(START_TAG)
        if tag:
            self._waiting = rest
            self._in_call = True
            return self._content(content)
        num_shown = len(content) - _length_of_tag_begun(content)
        self._waiting = content[num_shown:]
        return self._content(content[:num_shown]) or None

    def _next_call(self) -> str | ToolCall | None:
        body, tag, rest = self._waiting.partition(END_TAG)
        if not tag:
            return None
        self._in_call = False
        call = _parse(body)
        if call is None:  # what follows the start tag is searched again: a call may begin in it
            return self._not_a_call()
        self._waiting = rest
        self._after_call = True
        return call

    def _not_a_call(self) -> str:
        self._after_call = False
        return START_TAG

    def _content(self, text: str) -> str:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        return text


def _length_of_tag_begun(text: str) -> int:
    """How many characters at the end of the text are the beginning of a start tag."""
    longest = min(len(text), len(START_TAG) - 1)
    return next((k for k in range(longest, 0, -1) if text.endswith(START_TAG[:k])), 0)


def _parse(body: str) -> ToolCall | None:
    """The call that a tag encloses; None unless it is JSON with a name and an object of arguments."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments")
    if isinstance(arguments, str):  # some models write the object as JSON within JSON
        return _parse_nested(call["name"], arguments)
    if arguments is None:
        arguments = {}
    return (
        ToolCall(call["name"], json.dumps(arguments, ensure_ascii=False))
        if isinstance(arguments, dict)
        else None
    )


def _parse_nested(name: str, arguments: str) -> ToolCall | None:
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return None
    return ToolCall(name, arguments) if is_object else None
