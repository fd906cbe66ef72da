"""What a router reads in a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.router.message import RoutedRequest
from mlc_serve.router.prompt import Prompt, prompt_of

CHAT = "/v1/chat/completions"
FIRST = {"role": "user", "content": "x" * 300}


def read(path: str, body: Any) -> Prompt:
    """The prompt of a request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return prompt_of(RoutedRequest("POST", path, path.encode(), (), content), JsonLimits(1000, 20))


def num_common(first: Prompt, second: Prompt) -> int:
    """How many pages two prompts have in common."""
    return sum(one == other for one, other in zip(first.pages, second.pages, strict=False))


def test_a_longer_conversation_begins_as_the_shorter_one() -> None:
    """All pages of the first turn are the first ones of the second."""
    first = read(CHAT, {"model": "m", "messages": [FIRST]})
    second = read(
        CHAT, {"messages": [FIRST, {"role": "assistant", "content": "y" * 300}], "model": "m", "n": 1}
    )
    assert num_common(first, second) == len(first.pages) == 5
    assert len(second.pages) > 8


def test_tools_come_before_messages() -> None:
    """Other tools make another prompt from its beginning on, as they do in templates."""
    first = read(CHAT, {"messages": [FIRST], "tools": [{"type": "function", "function": {"name": "a"}}]})
    other = read(CHAT, {"messages": [FIRST], "tools": [{"type": "function", "function": {"name": "b"}}]})
    assert num_common(first, other) == 0


def test_the_model_and_what_is_continued_are_read() -> None:
    """Only /v1/responses has a response that is continued."""
    fields = {"model": "m", "input": "x", "previous_response_id": "resp_1"}
    assert (read("/v1/responses", fields).model, read("/v1/responses", fields).continues) == ("m", "resp_1")
    assert read(CHAT, fields).continues is None
    assert read("/v1/embeddings", fields)[:2] == ("m", [])
    assert read("/v1/models/owner/name", b"").model == "owner/name"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 1000,
        {"model": 1, "messages": 2, "tools": {"a": None}},
        {"messages": list(range(5000))},
        b'{"prompt": "\\ud800"}',
    ],
)
def test_a_request_that_is_not_valid_has_no_prompt(body: Any) -> None:
    """Nothing that a client sends is an error here; the server will say what is wrong with it."""
    for path in (CHAT, "/v1/completions"):
        assert not read(path, body).pages
