"""Bodies that are small to send but large in memory: wrong, many, deeply nested or long elements."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.e2e.attacks.attack import MEGABYTE, attack
from tests.e2e.attacks.server import AttackedServer

HEADERS = {"Content-Type": "application/json"}
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


def body(field: bytes, values: bytes) -> bytes:
    """A chat request with one more field."""
    return b"{%s,%s:%s}" % (MESSAGES, b'"' + field + b'"', values)


def a_list(element: bytes, count: int) -> bytes:
    """The same element again and again."""
    return b"[" + b",".join([element] * count) + b"]"


BIAS = json.dumps(dict.fromkeys(map(str, range(262_144)), -1)).encode()
WRONG = {
    "tools": body(b"tools", a_list(b"0", 290_000)),
    "messages": b'{"messages":%s}' % a_list(b'{"role":"user"}', 26_000),
    "parts": b'{"messages":[{"role":"user","content":%s}]}' % a_list(b'{"type":"text"}', 26_000),
    "token ids": body(b"stop_token_ids", a_list(b'"a"', 290_000)),
    "bias": body(b"logit_bias", BIAS[:-1] + b',"a":0}'),
}
MANY = {
    "numbers": body(b"mood", a_list(b"0", 2_000_000)),
    "objects": body(b"mood", a_list(b'{"a":0}', 500_000)),
    "lists in lists": body(b"mood", b"[" * 2_000_000),
    "strings": b'"' * (4 * MEGABYTE - 1),
    "digits": body(b"n", b"1" * (4 * MEGABYTE - 100)),
}
HARMLESS = {
    "fields": body(b"mood", b"0")[:-1] + b"," + BIAS[1:],
    "escapes": body(b"mood", b'"' + b"\\n" * (2 * MEGABYTE - 100) + b'"'),
    "surrogate pairs": body(b"mood", a_list(b'"\\ud83d\\ude00"', 200_000)),
}


def status_of(server: AttackedServer, text: bytes) -> int:
    """The status of the reply to a body; checks that the reply is short."""
    reply = httpx.post(f"{server.url}/v1/chat/completions", content=text, headers=HEADERS, timeout=60)
    assert len(reply.content) < 2000
    return reply.status_code


@pytest.mark.parametrize("bodies", [WRONG, MANY], ids=["wrong elements", "many elements"])
def test_a_refusal_costs_no_more_than_a_body_may(attacked: AttackedServer, bodies: dict[str, bytes]) -> None:
    """A refusal stays cheap however many elements a body has, and however many of them are wrong."""
    with attack(attacked, body_bytes=max(map(len, bodies.values()))):
        statuses = {name: status_of(attacked, text) for name, text in bodies.items()}
    assert statuses == dict.fromkeys(bodies, 400)


def test_what_is_ignored_costs_no_more_than_a_body_may(attacked: AttackedServer) -> None:
    """Many unknown fields, and long ones, are ignored cheaply."""
    with attack(attacked, body_bytes=max(map(len, HARMLESS.values()))):
        statuses = {name: status_of(attacked, text) for name, text in HARMLESS.items()}
    assert statuses == dict.fromkeys(HARMLESS, 200)
