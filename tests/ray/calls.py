"""Calls for tests."""

from __future__ import annotations

import json
from typing import Any

from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.ray.call import Call
from mlc_serve.router.message import RoutedRequest
from mlc_serve.router.prompt import prompt_of

CHAT = "/v1/chat/completions"


def chat_body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """The body of a chat request to the fake model."""
    return {"model": "fake", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


def call_of(body: dict[str, Any] | None = None, path: str = CHAT, method: str = "POST") -> Call:
    """A call as the front makes it."""
    text = b"" if body is None else json.dumps(body).encode()
    headers = ((b"content-type", b"application/json"), (b"host", b"anywhere"))
    request = RoutedRequest(method, path, path.encode(), headers, text)
    return Call(request, "", ("10.0.0.1", 1234), prompt_of(request, JsonLimits()))
