"""Anthropic's paths, called in-process."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model, replay
from tests.server.conftest import MakeClient

PATH = "/v1/messages"
BODY: dict[str, Any] = {
    "max_tokens": 5,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Hello"}],
}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]
DEEP = "[" * 300 + "]" * 300


def events_of(reply: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream's events, each of which has its type as its name."""
    events = []
    for text in reply.text.split("\n\n"):
        if text:
            name, data = text.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


def says(context: ServerContext, text: bytes) -> dict[str, Any]:
    """Serve a model that always says this, and return a request to it."""
    backend = FakeBackend(num_pages=1024, choose=replay(text))
    context.add(AsyncMLCEngine.from_loaded(fake_model("sayer", backend=backend)))
    return {**BODY, "model": "sayer", "max_tokens": 900}


async def test_message(client: httpx.AsyncClient) -> None:
    """A reply has its text, its reason to end and its usage; the tokens of the prompt are those counted."""
    counted = (await client.post(f"{PATH}/count_tokens", json=BODY)).json()
    reply = await client.post(f"{PATH}?beta=true", json=BODY, headers={"anthropic-version": "2023-06-01"})
    message = reply.json()
    assert reply.status_code == 200
    assert message["id"].startswith(f"msg_{reply.headers['request-id']}-")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "fake")
    (block,) = message["content"]
    assert (block["type"], len(block["text"])) == ("text", 5)
    assert (message["stop_reason"], message["stop_sequence"]) == ("max_tokens", None)
    assert message["usage"]["output_tokens"] == 5
    assert counted == {"input_tokens": message["usage"]["input_tokens"]}


async def test_cached_tokens_are_counted_separately(client: httpx.AsyncClient) -> None:
    """What the prefix cache held is not part of the input tokens, although the billing header has changed."""

    async def usage(header: str) -> dict[str, int]:
        system = [{"type": "text", "text": f"x-anthropic-billing-header: {header}"}]
        reply = await client.post(PATH, json=BODY | {"system": system})
        return dict(reply.json()["usage"])

    first, second = await usage("cch=1"), await usage("cch=2")
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] > 0
    assert second["input_tokens"] + second["cache_read_input_tokens"] == first["input_tokens"]


async def test_stream_adds_up(client: httpx.AsyncClient) -> None:
    """The events come in Anthropic's order, and their text is that of the whole reply."""
    whole = (await client.post(PATH, json=BODY)).json()
    events = events_of(await client.post(PATH, json=BODY | {"stream": True}))
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == whole["content"][0]["text"]
    assert events[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 5


async def test_the_stop_sequence_is_named(client: httpx.AsyncClient) -> None:
    """The client learns which of its stop sequences ended the reply."""
    text = (await client.post(PATH, json=BODY)).json()["content"][0]["text"]
    message = (await client.post(PATH, json=BODY | {"stop_sequences": ["never", text[-1]]})).json()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", text[-1])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": [1]}', {"a": [1]}), (f'{{"a": {DEEP}}}', {"arguments": json.dumps({"a": json.loads(DEEP)})})],
    ids=["usual", "nested deeper than a client may send"],
)
async def test_a_call(
    client: httpx.AsyncClient, context: ServerContext, arguments: str, expected: dict[str, Any]
) -> None:
    """A call arrives whole with its arguments, as a stream with their JSON text."""
    text = f'Look.<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    body = says(context, text.encode()) | {"tools": TOOLS}
    message = (await client.post(PATH, json=body)).json()
    said, call = message["content"]
    assert said == {"type": "text", "text": "Look."}
    assert (call["name"], call["input"], message["stop_reason"]) == ("f", expected, "tool_use")
    assert call["id"].startswith("toolu_")
    events = events_of(await client.post(PATH, json=body | {"stream": True}))
    pieces = [
        event["delta"].get("partial_json", "") for event in events if "index" in event and "delta" in event
    ]
    assert json.loads("".join(pieces)) == json.loads(arguments)
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_long_texts(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A conversation that is translated and tokenized off the event loop is answered and counted as well."""
    context.add(
        AsyncMLCEngine.from_loaded(
            fake_model("long", max_total_sequence_length=40_000, max_single_sequence_length=32_000)
        )
    )
    blocks = [{"type": "text", "text": "x" * 900} for _ in range(20)]
    body = {**BODY, "model": "long", "messages": [{"role": "user", "content": blocks}]}
    counted = (await client.post(f"{PATH}/count_tokens", json=body)).json()
    assert counted["input_tokens"] > 18_000


ERRORS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
    ({"model": "claude"}, 404, "not_found_error", "claude"),
    (
        {"messages": [{"role": "user", "content": "x" * 2000}]},
        400,
        "invalid_request_error",
        "prompt is too long",
    ),
    ({"messages": [{"role": "user", "content": "x" * 9000}]}, 413, "request_too_large", "8000"),
]


@pytest.mark.parametrize(("fields", "status", "kind", "words"), ERRORS)
@pytest.mark.parametrize("path", [PATH, f"{PATH}/count_tokens"])
async def test_errors_have_anthropics_form(
    make_client: MakeClient, path: str, fields: dict[str, Any], status: int, kind: str, words: str
) -> None:
    """Whatever is refused, and by whichever layer, is told in Anthropic's form with the request's id."""
    if (path, words) == (f"{PATH}/count_tokens", "max_tokens"):
        fields, words = {"messages": None}, "messages"
    async with make_client(max_body_bytes=8000) as client:
        reply = await client.post(path, json=BODY | fields)
    told = reply.json()
    assert (reply.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert words in told["error"]["message"]
    assert told["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]


async def test_a_thread_is_refused_so_that_clients_go_on_without(client: httpx.AsyncClient) -> None:
    """The refusal of `thread` has the details by which Anthropic's SDK sends all messages instead."""
    reply = await client.post(PATH, json={**BODY, "thread": {"type": "create"}})
    assert (reply.status_code, reply.json()["error"]["details"]) == (
        400,
        {"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
    )


async def test_layers_refuse_in_anthropics_form(make_client: MakeClient, engine: AsyncMLCEngine) -> None:
    """So do the API key's check, a full queue, and a method that is not allowed; other paths don't."""
    async with make_client(api_keys=["secret"]) as client:
        assert (await client.post(PATH, json=BODY)).json()["error"]["type"] == "authentication_error"
        assert (await client.get("/v1/models")).json()["error"]["code"] == "invalid_api_key"
    async with make_client() as client:
        with ExitStack() as places:
            for _ in range(engine.limits.max_num_sequence + engine.limits.max_queued_requests):
                places.enter_context(engine.reserve(1))
            full = await client.post(PATH, json=BODY)
        assert (full.status_code, full.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(full.headers["retry-after"]) > 0
        wrong = await client.get(PATH)
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")


async def test_a_stream_that_fails_ends_with_an_error(
    client: httpx.AsyncClient, backend: FakeBackend
) -> None:
    """A failure after the first byte is the last event."""
    text = (await client.post(PATH, json=BODY)).json()["content"][0]["text"]
    backend.fail_on = {ord(text[2])}
    *_, error = events_of(await client.post(PATH, json=BODY | {"stream": True}))
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_request(
    client: httpx.AsyncClient, engine: AsyncMLCEngine, backend: FakeBackend, stream: bool
) -> None:
    """The place of a client that is gone is free again."""
    backend.gate.clear()
    waiting = asyncio.create_task(client.post(PATH, json=BODY | {"stream": stream}))
    await asyncio.to_thread(backend.entered.wait)
    assert engine.num_open == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert engine.num_open == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_log_has_the_usage(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """A request's line in the log says what it used and why it ended."""
    caplog.set_level(logging.INFO)
    await client.post(PATH, json=BODY | {"stream": stream})
    (line,) = [record.message for record in caplog.records if "duration=" in record.message]
    assert "completion_tokens=5" in line
    assert "finish=max_tokens" in line
    assert " reply=msg_" in line


async def test_models_have_anthropics_fields(client: httpx.AsyncClient) -> None:
    """Anthropic's client finds its fields beside OpenAI's, in the list and in single entries."""
    listing = (await client.get("/v1/models")).json()
    (card,) = listing["data"]
    assert (card["type"], card["display_name"], card["created_at"][10]) == ("model", "fake", "T")
    assert (listing["has_more"], listing["first_id"], listing["last_id"]) == (False, "fake", "fake")
    assert (await client.get("/v1/models/fake")).json() == card
