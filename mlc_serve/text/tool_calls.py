"""Finds tool calls in a model's answer while it is generated, by the tags of the Hermes and Qwen2.5 models.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

There is one object for each answer, owned by the code that streams it. Knows nothing about which functions
exist or how calls get their ids.
"""

from __future__ import annotations

import re

from mlc_serve.text.written_calls import ToolCall, UnfinishedCallError, read_calls

START_TAG = "<tool_call>"
END_TAG = "</tool_call>"

# After this many start tags without a valid call, the rest of an answer is content, since each costs a scan.
MAX_BROKEN = 100

# A growing call is parsed again until its characters have been parsed this often on average, and after that
# only at the end.
LOOKS = 16

# What still belongs to a call after its JSON: white space, the end of a code fence, the end tag.
_REST_OF_CALL = re.compile(rf"\s*(?:```\s*(?={START_TAG}|{END_TAG}|\Z))?(?:{END_TAG}\s*)?")
_NEXT_TAG = re.compile(rf"\s*(?:```\s*)?(?:{START_TAG}|{END_TAG})")


class ToolCallParser:
    """Splits an answer, which may arrive in any portions, into content and calls, in their order.

    A call is complete when its JSON is: the end tag may be missing, or may occur inside a string. What looks
    like a call but isn't (no JSON, no name, arguments that are not an object) becomes content, unchanged.
    White space after a call belongs to the call. Two things are held back: calls until a tag follows them,
    and the longest suffix of the text that could begin a tag.
    """

    def __init__(self) -> None:
        self._waiting = _Waiting()
        self._in_call = False
        self._after_call = False
        self._num_broken = 0

    def push(self, text: str) -> list[str | ToolCall]:
        """Return what this text completes: non-empty pieces of content, and calls."""
        may_end = self._waiting.add(text)
        return self._parts(is_last=False) if may_end or not self._in_call else []

    def finish(self) -> list[str | ToolCall]:
        """Return what is left at the end: calls without an end tag, and content."""
        return self._parts(is_last=True)

    def _parts(self, *, is_last: bool) -> list[str | ToolCall]:
        parts: list[str | ToolCall] = []
        while (
            found := self._next_call(is_last) if self._in_call else self._next_content(is_last)
        ) is not None:
            parts += found
        return parts

    def _next_content(self, is_last: bool) -> list[str | ToolCall] | None:
        """Return the content up to the next call; None if there is neither content nor a call."""
        text = self._waiting.text
        content, tag, rest = text.partition(START_TAG)
        if tag and self._num_broken < MAX_BROKEN:
            self._waiting.text = rest
            self._in_call = True
            return self._content(content)
        num_shown = len(text) - (0 if is_last else _length_of_tag_begun(text))
        self._waiting.text = text[num_shown:]
        return self._content(text[:num_shown]) or None

    def _next_call(self, is_last: bool) -> list[str | ToolCall] | None:
        """Return the calls between a start tag and the next tag; None if more text is needed first."""
        text = self._waiting.text
        try:
            calls, end = read_calls(text)
            is_settled = not calls or _NEXT_TAG.match(text, end) is not None
        except UnfinishedCallError:
            calls, end, is_settled = [], 0, False
        if not (is_settled or is_last):
            self._waiting.count_look()
            return None
        self._in_call = False
        self._after_call = bool(calls)
        if not calls:  # the text after the start tag is searched again: a call may begin in it
            self._num_broken += 1
            return [START_TAG]
        self._waiting.text = text[_end_of_call(text, end) :]
        return [*calls]

    def _content(self, text: str) -> list[str | ToolCall]:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        return [text] if text else []


class _Waiting:
    """A text that grows until it can be used. Adding costs only what is added, reading the whole text."""

    def __init__(self) -> None:
        self._portions: list[str] = []
        self._tail = ""  # the last characters added, fewer than an end tag has
        self._length = 0
        self._looked_at = 0

    def add(self, text: str) -> bool:
        """Add more text, and return whether it is worth looking for the end of a call now."""
        self._portions.append(text)
        self._length += len(text)
        seen = self._tail + text
        self._tail = seen[1 - len(END_TAG) :]
        is_affordable = self._looked_at <= LOOKS * (self._length + len(END_TAG))
        return is_affordable and (END_TAG in seen or START_TAG in seen)

    def count_look(self) -> None:
        """Record that the whole text was parsed, and that more of it is needed."""
        self._looked_at += self._length

    @property
    def text(self) -> str:
        """The whole text. Assign to it what is left after some was used."""
        joined = "".join(self._portions)
        self._portions = [joined]
        return joined

    @text.setter
    def text(self, rest: str) -> None:
        self._portions = [rest]
        self._length = len(rest)
        self._looked_at = 0


def _end_of_call(text: str, end_of_json: int) -> int:
    rest = _REST_OF_CALL.match(text, end_of_json)
    return end_of_json if rest is None else rest.end()


def _length_of_tag_begun(text: str) -> int:
    """Return how many characters at the end of the text could begin a start tag."""
    longest = min(len(text), len(START_TAG) - 1)
    return next((k for k in range(longest, 0, -1) if text.endswith(START_TAG[:k])), 0)
