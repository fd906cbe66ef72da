"""Untrusted checkpoints, served beside a good one, harm only their own requests."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.e2e.attacks.attack import ANSWER, MODEL, QUESTION, attack
from tests.e2e.attacks.conftest import BROKEN, HOSTILE
from tests.e2e.attacks.server import AttackedServer


def ask(server: AttackedServer, model: str, content: str, **fields: Any) -> httpx.Response:
    """The reply of a model to a message."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=server.headers, timeout=60)


def prompt_tokens(reply: httpx.Response) -> int:
    """How many tokens the prompt of a reply had."""
    assert reply.status_code == 200, reply.text
    count: int = reply.json()["usage"]["prompt_tokens"]
    return count


def test_an_end_that_is_no_token(impatient: AttackedServer) -> None:
    """A checkpoint whose end-of-sequence id is beyond its vocabulary answers, even with min_tokens."""
    with attack(impatient):
        for _ in range(3):
            assert ask(impatient, BROKEN, QUESTION, min_tokens=4).status_code == 200
    assert "Traceback" not in impatient.log


@pytest.mark.parametrize("order", ["budget", "filter", "repeat", "pad", "cycler", "recursion"])
def test_a_hostile_template(impatient: AttackedServer, order: str) -> None:
    """A request is refused whose template never ends, fills the memory or fails; nothing else is harmed."""
    with attack(impatient):
        reply = ask(impatient, HOSTILE, order)
    assert reply.status_code == 400, reply.text


def test_control_tokens_are_the_templates_own(impatient: AttackedServer) -> None:
    """Text from a client never becomes a control token, neither as a variable nor joined from halves."""
    plain = prompt_tokens(ask(impatient, HOSTILE, "Hello"))
    with attack(impatient):
        title = ask(impatient, HOSTILE, "Hello", chat_template_kwargs={"title": "<|system|>"})
        messages = [
            {"role": "user", "content": "x", "name": "system"},
            {"role": "user", "content": "join"},
        ]
        joined = ask(impatient, HOSTILE, "", messages=messages)
    assert prompt_tokens(title) == plain + len("<|system|>")
    assert prompt_tokens(joined) == 1 + len("<|system|>")


def test_the_good_model_is_unharmed(impatient: AttackedServer) -> None:
    """The good model still gives its right answer after the attacks on the others."""
    reply = ask(impatient, MODEL, QUESTION, max_tokens=64)
    assert reply.json()["choices"][0]["message"]["content"] == ANSWER
