"""Bodies of requests."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.conftest import MakeClient

JSON = {"Content-Type": "application/json"}
MESSAGES = [{"role": "user", "content": "Hello"}]


def nested(depth: int) -> Any:
    """An object in an object in an object."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"prompt": "x",}', "line 1, column 16"),
        (b'{\n "prompt": }', "line 2, column 12"),
        (b"\n\n[", "line 3, column 2"),
    ],
)
async def test_malformed_json_says_where(client: httpx.AsyncClient, body: bytes, place: str) -> None:
    """The message gives the line and column where the JSON is malformed."""
    reply = await client.post("/v1/completions", content=body, headers=JSON)
    assert reply.status_code == 400
    assert place in reply.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"", b"null", b"[]", b'"text"'])
async def test_odd_bodies_are_the_clients_fault(client: httpx.AsyncClient, body: bytes) -> None:
    """Bytes that are no text, endless nesting, huge numbers, an empty body and a non-object all get 400."""
    reply = await client.post("/v1/completions", content=body, headers=JSON)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain", "json"])
async def test_json_must_be_announced(client: httpx.AsyncClient, kind: str) -> None:
    """The refusal of another type names the right header, as `curl -d` by itself announces a form."""
    reply = await client.post(
        "/v1/completions", content=b'{"prompt": "x"}', headers={"Content-Type": kind} if kind else {}
    )
    assert reply.status_code == 400
    assert "Content-Type: application/json" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
async def test_json_may_be_announced_in_many_ways(client: httpx.AsyncClient, kind: str) -> None:
    """Parameters, capitals and subtypes of JSON make no difference."""
    reply = await client.post(
        "/v1/completions", content=b'{"prompt": "x", "max_tokens": 1}', headers={"Content-Type": kind}
    )
    assert reply.status_code == 200


@pytest.mark.parametrize("depth", [90, 500])
@pytest.mark.parametrize("place", ["tools", "arguments", "arguments_text", "chat_template_kwargs", "unknown"])
async def test_deep_nesting_is_no_failure_of_the_server(
    client: httpx.AsyncClient, place: str, depth: int
) -> None:
    """A body that nests as deep as schemas do is accepted; a deeper one gets a 400, not a failure."""
    deep = nested(depth)
    call = {"function": {"name": "f", "arguments": json.dumps(deep) if place == "arguments_text" else deep}}
    bodies: dict[str, Any] = {
        "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": deep}}]},
        "arguments": {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [call]}, *MESSAGES]},
        "chat_template_kwargs": {"chat_template_kwargs": {"deep": deep}},
        "unknown": {"mood": deep},
    }
    bodies["arguments_text"] = bodies["arguments"]
    reply = await client.post(
        "/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 1, **bodies[place]}
    )
    assert reply.status_code == (200 if depth == 90 else 400)


async def test_limits_are_settings(make_client: MakeClient) -> None:
    """The limits on depth and elements can be changed by settings."""
    body = {"prompt": "x", "max_tokens": 1, "mood": nested(98), "ids": [0] * 400}
    async with make_client(max_body_depth=100, max_body_elements=1500) as client:
        assert (await client.post("/v1/completions", json=body)).status_code == 200
    async with make_client(max_body_depth=99) as client:
        assert "99 levels" in (await client.post("/v1/completions", json=body)).text
    async with make_client(max_body_elements=1000) as client:
        assert "1000 elements" in (await client.post("/v1/completions", json=body)).text


WRONG: dict[str, Any] = {
    "messages": [0],
    "tools": [0],
    "stop_token_ids": ["a"],
    "stop": [0],
    "logit_bias": {"a": "b"},
    "prompt": [None],
}


@pytest.mark.parametrize("field", WRONG)
async def test_of_many_mistakes_few_are_told(client: httpx.AsyncClient, field: str) -> None:
    """A body with very many wrong elements gets a short reply."""
    wrong = WRONG[field]
    values = {f"{i}a": 0 for i in range(50_000)} if isinstance(wrong, dict) else wrong * 100_000
    path = "completions" if field == "prompt" else "chat/completions"
    reply = await client.post(f"/v1/{path}", json={"messages": MESSAGES, field: values})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(field)
    assert len(reply.content) < 1000
