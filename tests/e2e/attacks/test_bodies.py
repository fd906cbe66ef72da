"""Bodies made to cost more than they should: each is refused or answered at little cost."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.e2e.attacks.attack import MEGABYTE, MODEL, attack, error_of
from tests.e2e.attacks.server import AttackedServer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TEXT = "long text " * (2 * MEGABYTE // 10)


def tool(**parts: Any) -> dict[str, Any]:
    """A tool whose function has these parts."""
    return {"type": "function", "function": {"name": "f", **parts}}


def call(arguments: str) -> dict[str, Any]:
    """A message that calls a tool."""
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


# For each name, a path and what is sent to it.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wrong tools": (CHAT, {"messages": HELLO, "tools": [0] * MEGABYTE}),
    "wrong messages": (CHAT, {"messages": [0] * MEGABYTE}),
    "wrong stop strings": (CHAT, {"messages": HELLO, "stop": [{}] * 200_000}),
    "unknown fields": (CHAT, {"messages": HELLO, **{f"field_{i}": i for i in range(100_000)}}),
    "a deep body": (CHAT, {"messages": HELLO, "metadata": nested(500)}),
    "a long stop string": (CHAT, {"messages": HELLO, "n": 64, "stop": TEXT}),
    "many biases": (COMPLETIONS, {"prompt": "a", "logit_bias": {str(i): 1 for i in range(200_000)}}),
    "a long prompt": (COMPLETIONS, {"prompt": TEXT}),
    "many prompts": (COMPLETIONS, {"prompt": ["a"] * 200_000}),
    "a long list of ids": (COMPLETIONS, {"prompt": [65] * 250_000}),
    "a long message": (CHAT, {"messages": [{"role": "user", "content": TEXT}]}),
    "many messages": (CHAT, {"messages": [{"role": "user", "content": "a"}] * 25_000}),
    "a long description": (CHAT, {"messages": HELLO, "tools": [tool(description=TEXT)]}),
    "a long schema": (CHAT, {"messages": HELLO, "tools": [tool(parameters={"title": TEXT})]}),
    "long arguments": (CHAT, {"messages": [*HELLO, call(json.dumps({"a": TEXT})), *HELLO]}),
    "a long variable": (CHAT, {"messages": HELLO, "chat_template_kwargs": {"title": TEXT}}),
    "a long suffix": (COMPLETIONS, {"prompt": "a", "suffix": TEXT, "max_tokens": 1}),
    "a long name of a model": (CHAT, {"messages": HELLO, "model": TEXT}),
    "a long user": (CHAT, {"messages": HELLO, "user": TEXT, "max_tokens": 1}),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_costs_little(attacked: AttackedServer, name: str) -> None:
    """Each body gets a reply or a refusal with a usual status, and refusals are short."""
    path, fields = BODIES[name]
    content = json.dumps({"model": MODEL, "max_tokens": 8, **fields}).encode()
    with attack(attacked, body_bytes=len(content)):
        reply = httpx.post(
            attacked.url + path, content=content, headers={"Content-Type": "application/json"}, timeout=60
        )
    assert reply.status_code in {200, 400, 404, 413}
    assert len(reply.content) < 4096 or reply.status_code == 200


def test_three_faults_are_told(attacked: AttackedServer) -> None:
    """The message has at most three faults, so that the server need not find the others."""
    reply = httpx.post(f"{attacked.url}{CHAT}", json={"model": MODEL, "messages": HELLO, "tools": [0] * 1000})
    assert error_of(reply)["message"].count("tools[") <= 3


def test_a_body_beyond_the_limit_is_refused(attacked: AttackedServer) -> None:
    """A prompt of 32 MB gets a 413, and costs no memory."""
    content = json.dumps({"model": MODEL, "prompt": "a" * (32 * MEGABYTE)}).encode()
    with attack(attacked):
        reply = httpx.post(f"{attacked.url}{COMPLETIONS}", content=content, timeout=60)
    assert (reply.status_code, error_of(reply)["code"]) == (413, "body_too_large")


def test_all_alternatives_of_many_choices(attacked: AttackedServer) -> None:
    """Sixteen choices with twenty alternatives for each token cost little, whole and as a stream."""
    fields = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story."}], "n": 16}
    for stream in (False, True):
        body = {**fields, "logprobs": True, "top_logprobs": 20, "max_tokens": 50, "stream": stream}
        with attack(attacked):
            reply = httpx.post(f"{attacked.url}{CHAT}", json=body, timeout=120)
        assert reply.status_code in {200, 400, 429}
