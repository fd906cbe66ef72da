"""Requests to the demo model, and what their replies are checked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import openai

CHAT: Any = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Spell the word house."}],
    "temperature": 0,
    "max_tokens": 24,
}
# Takes a second or more, so that something can happen meanwhile.
LONG: Any = {**CHAT, "max_tokens": 1500, "extra_body": {"ignore_eos": True}}


class Stream(NamedTuple):
    """A stream that has begun, the text of its first chunks, and the replica that answers."""

    chunks: openai.Stream[Any]
    begun: str
    replica: str

    def text(self) -> str:
        """The whole text. Raises openai.APIError if the stream does not end as it should."""
        text, finish = self.begun, None
        for chunk in self.chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        assert finish is not None, "the stream ended in silence"
        return text


def begun(client: openai.OpenAI, request: Any) -> Stream:
    """A stream, when its first text is there."""
    reply = client.chat.completions.with_raw_response.create(**request, stream=True)
    chunks: openai.Stream[Any] = reply.parse()
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            return Stream(chunks, chunk.choices[0].delta.content, reply.headers.get("x-routed-to", ""))
    raise AssertionError("the stream has no text")


def text_of(client: openai.OpenAI, request: Any) -> str:
    """The text of a whole reply."""
    return client.chat.completions.create(**request).choices[0].message.content or ""


def num_tokens(client: openai.OpenAI, request: Any) -> int:
    """The number of tokens of a whole reply."""
    usage = client.chat.completions.create(**request).usage
    assert usage is not None
    tokens: int = usage.completion_tokens
    return tokens


def routed_to(client: openai.OpenAI, request: Any) -> str:
    """The replica that answers a request."""
    return client.chat.completions.with_raw_response.create(**request).headers["x-routed-to"]
