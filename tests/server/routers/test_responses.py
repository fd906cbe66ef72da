"""/v1/responses, called in-process."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model, replay
from tests.server.conftest import MakeClient

HELLO = {"input": "Hello", "max_output_tokens": 5, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "temperature": 0}
TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}]
CALL = b'<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'


def events_of(reply: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream. Each is named by its type."""
    events = []
    for lines in filter(None, reply.text.split("\n\n")):
        name, data = lines.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def text_of(response: dict[str, Any]) -> str:
    """The text of a response's only item."""
    (item,) = response["output"]
    (part,) = item["content"]
    assert part["type"] == "output_text"
    return str(part["text"])


async def created(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The response to a request with these fields."""
    reply = await client.post("/v1/responses", json={**HELLO, **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def test_a_response_is_what_the_chat_answers(client: httpx.AsyncClient) -> None:
    """The text and the usage are those of a chat, and the request's settings come back."""
    chat = (await client.post("/v1/chat/completions", json=CHAT)).json()
    settings = {"metadata": {"a": "b"}, "instructions": None, "tools": TOOLS, "tool_choice": "none"}
    response = await created(client, **settings)
    assert text_of(response) == chat["choices"][0]["message"]["content"]
    assert (response["object"], response["status"]) == ("response", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert response["usage"]["output_tokens"] == 5
    assert {
        name: response[name] for name in ("metadata", "tool_choice", "temperature", "top_p", "model")
    } == {
        "metadata": {"a": "b"},
        "tool_choice": "none",
        "temperature": 0,
        "top_p": None,
        "model": "fake",
    }
    (tool,) = response["tools"]
    assert (tool["name"], tool["strict"]) == ("weather", None)


async def test_a_stream_ends_with_the_same_response(client: httpx.AsyncClient) -> None:
    """The deltas add up to the text of the last event's response, which is that of a whole reply."""
    whole = await created(client)
    events = events_of(await client.post("/v1/responses", json={**HELLO, "stream": True}))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]
    assert last["type"] == "response.incomplete"
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text_of(last["response"]) == text_of(whole)
    assert last["response"]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert {event["response"]["id"] for event in events if "response" in event} == {last["response"]["id"]}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_is_continued(client: httpx.AsyncClient, stream: bool) -> None:
    """A stored response is continued as if the client had sent its conversation, without its instructions."""
    first = await created(client, instructions="Be brief.")
    own = {"instructions": "Be kind.", "previous_response_id": first["id"]}
    reply = await client.post("/v1/responses", json={**HELLO, **own, "input": "More", "stream": stream})
    second = events_of(reply)[-1]["response"] if stream else reply.json()
    third = await created(client, input="Again", previous_response_id=second["id"])
    conversation = [
        {"role": "user", "content": "Hello"},
        *first["output"],
        {"role": "user", "content": "More"},
        *second["output"],
        {"role": "user", "content": "Again"},
    ]
    sent = await created(client, input=conversation)
    assert text_of(third) == text_of(sent)
    assert third["usage"]["input_tokens"] == sent["usage"]["input_tokens"]
    assert third["previous_response_id"] == second["id"]
    kind = await created(client, input=conversation[:3], instructions="Be kind.")
    assert second["usage"]["input_tokens"] == kind["usage"]["input_tokens"]


async def test_a_call_and_its_output(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A call is an item, streamed or not. Its output continues the conversation by the call's id."""
    backend = FakeBackend(num_pages=256, choose=replay(CALL))
    context.add(AsyncMLCEngine.from_loaded(fake_model("caller", backend=backend)))
    asked = {"model": "caller", "max_output_tokens": 100, "tools": TOOLS}
    whole = await created(client, **asked)
    stream = await client.post("/v1/responses", json={**HELLO, **asked, "stream": True})
    for response in (whole, events_of(stream)[-1]["response"]):
        (call,) = response["output"]
        assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
        assert json.loads(call["arguments"]) == {"city": "Oslo"}
        assert response["status"] == "completed"
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sun"}
        await created(client, **asked, input=[output], previous_response_id=response["id"])


async def test_logprobs(client: httpx.AsyncClient) -> None:
    """Logprobs are in the message of a whole response, as a chat has them, and in the deltas of a stream."""
    chat = await client.post("/v1/chat/completions", json={**CHAT, "logprobs": True, "top_logprobs": 2})
    expected = chat.json()["choices"][0]["logprobs"]["content"]
    settings = {"parameters": {"logprobs": None}}  # must not be taken for the place of the logprobs
    asked: dict[str, Any] = {"top_logprobs": 2, "tools": [{**TOOLS[0], **settings}], "tool_choice": "none"}
    response = await created(client, **asked)
    assert response["output"][0]["content"][0]["logprobs"] == expected
    assert response["tools"][0]["parameters"] == settings["parameters"]
    stored = (await client.get(f"/v1/responses/{response['id']}")).json()
    assert stored["output"][0]["content"][0]["logprobs"] == []
    events = events_of(await client.post("/v1/responses", json={**HELLO, **asked, "stream": True}))
    streamed = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert [entry for entries in streamed for entry in entries] == expected


async def test_stored_responses_are_read_and_deleted(client: httpx.AsyncClient) -> None:
    """A stored response comes back as it was sent, until it is deleted."""
    response = await created(client)
    path = f"/v1/responses/{response['id']}"
    assert (await client.get(path)).json() == response
    assert (await client.get(path, params={"stream": "true"})).status_code == 400
    deleted = {"id": response["id"], "object": "response", "deleted": True}
    assert (await client.delete(path)).json() == deleted
    for reply in (await client.get(path), await client.delete(path), await client.get(f"{path}/input_items")):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "response_not_found"


async def test_input_items_come_in_pages(client: httpx.AsyncClient) -> None:
    """The items that a request sent are listed in either order, from behind any of them."""
    texts = ["One", "Two", "Three"]
    items = [{"id": text, "role": "user", "content": text} for text in texts]
    path = f"/v1/responses/{(await created(client, input=items))['id']}/input_items"
    page = (await client.get(path, params={"limit": "2"})).json()
    assert [item["id"] for item in page["data"]] == ["Three", "Two"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("Three", "Two", True)
    assert page["data"][0] == {
        "id": "Three",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Three"}],
        "status": "completed",
    }
    page = (await client.get(path, params={"order": "asc", "after": "One"})).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (["Two", "Three"], False)
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"limit": "9" * 5000}, {"order": "up"}, {"after": "Four"}):
        reply = await client.get(path, params=wrong)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(wrong)))


async def test_items_are_referred_to(client: httpx.AsyncClient) -> None:
    """A reference stands for an item of a stored response; an unknown one is refused by its position."""
    first = await created(client)
    message = first["output"][0]
    more = {"role": "user", "content": "More"}
    referring = await created(client, input=[{"type": "item_reference", "id": message["id"]}, more])
    assert text_of(referring) == text_of(await created(client, input=[message, more]))
    reply = await client.post("/v1/responses", json={"input": [more, {"id": "msg_none"}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input.1.id")


async def test_each_key_has_its_own_responses(make_client: MakeClient) -> None:
    """A key can neither read, nor delete, nor continue, nor refer to the responses of another."""
    headers = [{"Authorization": f"Bearer {key}"} for key in ("one", "two")]
    async with make_client(api_keys=["one", "two"]) as client:
        client.headers.update(headers[0])
        response = await created(client)
        path = f"/v1/responses/{response['id']}"
        client.headers.update(headers[1])
        for request in (client.get(path), client.delete(path), client.get(f"{path}/input_items")):
            assert (await request).status_code == 404
        continuing = {**HELLO, "previous_response_id": response["id"]}
        referring = {**HELLO, "input": [{"id": response["output"][0]["id"]}]}
        for body in (continuing, referring):
            assert (await client.post("/v1/responses", json=body)).status_code == 400
        client.headers.update(headers[0])
        assert (await client.get(path)).json() == response


async def test_what_is_not_stored(make_client: MakeClient) -> None:
    """Without `store`, or on a server that stores nothing, responses can't be continued, and say so."""
    async with make_client() as client:
        response = await created(client, store=False)
        assert response["store"] is False
        assert (await client.get(f"/v1/responses/{response['id']}")).status_code == 404
    async with make_client(max_stored_responses=0) as client:
        response = await created(client)
        assert response["store"] is False
        reply = await client.post("/v1/responses", json={**HELLO, "previous_response_id": response["id"]})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")


async def test_a_conversation_is_bounded_like_a_body(make_client: MakeClient) -> None:
    """What is stored of a conversation may be as long as a body, and is refused before it is read."""
    async with make_client(max_body_bytes=600) as client:
        first = await created(client, input="x" * 200)
        second = await created(client, previous_response_id=first["id"])
        reply = await client.post("/v1/responses", json={**HELLO, "previous_response_id": second["id"]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "previous_response_id")


async def test_long_conversations_are_answered_too(client: httpx.AsyncClient) -> None:
    """A conversation that is prepared beside the event loop gives the same answer as any other."""
    items = [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x" * 5000}]}]
    long = await created(client, input=[*items, {"role": "assistant", "content": "Hi"}])
    assert text_of(long) == text_of(await created(client, input=[{"role": "assistant", "content": "Hi"}]))


async def test_what_json_can_not_repeat_is_refused(client: httpx.AsyncClient) -> None:
    """A number that only Python's parser knows is refused, since the reply would have to repeat it."""
    body = json.dumps({**HELLO, "tools": [{**TOOLS[0], "parameters": {"maximum": float("nan")}}]})
    reply = await client.post("/v1/responses", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "x" * 2000}, "input", "context_length_exceeded"),
        ({"input": "Hi", "model": "other"}, "model", "model_not_found"),
        ({"input": "Hi", "background": True}, "background", "unsupported"),
        ({}, "input", "invalid_value"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_have_a_status(
    client: httpx.AsyncClient, body: dict[str, Any], param: str, code: str, stream: bool
) -> None:
    """What is refused before the first token has an HTTP status and names the request's own field."""
    reply = await client.post("/v1/responses", json={**body, "stream": stream})
    assert reply.status_code in (400, 404)
    error = reply.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


async def test_cancelling_is_refused(client: httpx.AsyncClient) -> None:
    """There is nothing in the background that could be cancelled."""
    reply = await client.post("/v1/responses/resp_1/cancel")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported")


async def test_death_in_mid_stream_is_an_event(client: httpx.AsyncClient, context: ServerContext) -> None:
    """When the engine dies after the first token, the stream has an error and a failed response."""
    backend = FakeBackend(num_pages=64, choose=replay(b"ZZ"))
    backend.crash_on = set(b"Z")
    context.add(AsyncMLCEngine.from_loaded(fake_model("dying", backend=backend)))
    reply = await client.post("/v1/responses", json={**HELLO, "model": "dying", "stream": True})
    *_, error, failed = events_of(reply)
    assert (error["type"], error["code"]) == ("error", "engine_dead")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert text_of(failed["response"])
    assert (await client.get(f"/v1/responses/{failed['response']['id']}")).status_code == 404


async def test_places_are_taken_as_for_a_chat(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A request without a place gets 429 and Retry-After; the one that has a place is answered."""
    backend = FakeBackend(num_pages=64)
    model = fake_model("small", backend=backend, max_num_sequence=1, max_queued_requests=0)
    context.add(AsyncMLCEngine.from_loaded(model))
    body = {**HELLO, "model": "small"}
    backend.gate.clear()
    held = asyncio.create_task(client.post("/v1/responses", json=body))
    await asyncio.to_thread(backend.entered.wait)
    refused = await client.post("/v1/responses", json=body)
    backend.gate.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert (await held).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_the_log_has_the_usage(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """The line of a request has the response's id, its tokens and how it ended."""
    caplog.set_level(logging.INFO, "mlc_serve.server.middleware.request_log")
    await client.post("/v1/responses", json={**HELLO, "stream": stream})
    line = caplog.messages[-1]
    for fact in ("model=fake", "reply=resp_", "completion_tokens=5", "finish=incomplete"):
        assert f" {fact}" in line
    assert (" ttft=" in line) == stream
