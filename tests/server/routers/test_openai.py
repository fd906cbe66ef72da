"""OpenAI's paths, called in-process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from starlette.types import Message

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.errors import RequestError
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model
from tests.drafting import drafting_model
from tests.server.conftest import MakeClient

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"messages": HELLO, "max_tokens": 5, "temperature": 0}
COMPLETION = {"prompt": "Hello", "max_tokens": 5, "temperature": 0}


def data_of(reply: httpx.Response) -> list[str]:
    """The data of a stream's events."""
    return [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]


async def test_models(client: httpx.AsyncClient) -> None:
    """The list has the fields that clients show, and is the same in two calls."""
    listing = (await client.get("/v1/models")).json()
    assert listing["object"] == "list"
    (card,) = listing["data"]
    shown = {"id": "fake", "root": "fake", "object": "model", "owned_by": "MLC-LLM", "max_model_len": 1024}
    assert card.items() >= shown.items()
    assert card["created"] > 0
    assert (await client.get("/v1/models")).json() == listing
    assert (await client.get("/v1/models/fake")).json() == card


async def test_model_names_may_have_slashes(client: httpx.AsyncClient, context: ServerContext) -> None:
    """Names of hub repositories and paths can be looked up as they are."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("owner/name")))
    assert (await client.get("/v1/models/owner/name")).json()["id"] == "owner/name"
    reply = await client.get("/v1/models/nobody/name")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"


async def test_an_alias_is_a_name_like_any_other(client: httpx.AsyncClient, context: ServerContext) -> None:
    """An alias is listed and looked up, requests may use it, and replies repeat it; metrics have the name."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("long/name")), ["short"])
    cards = (await client.get("/v1/models")).json()["data"]
    assert [(card["id"], card["root"]) for card in cards[1:]] == [
        ("long/name", "long/name"),
        ("short", "long/name"),
    ]
    assert (await client.get("/v1/models/short")).json() == cards[2]
    reply = await client.post("/v1/completions", json={**COMPLETION, "model": "short"})
    assert reply.json()["model"] == "short"
    metrics = (await client.get("/metrics")).text
    assert 'mlc_serve_requests_finished_total{model="long/name",reason="length"} 1.0' in metrics
    assert "short" not in metrics


async def test_chat(client: httpx.AsyncClient) -> None:
    """A whole chat reply has its message, its model and its usage."""
    reply = (await client.post("/v1/chat/completions", json=CHAT)).json()
    assert reply["model"] == "fake"
    assert reply["id"].startswith("chatcmpl-")
    assert len(reply["choices"][0]["message"]["content"]) == 5
    assert reply["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
async def test_stream_adds_up(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """The deltas of a stream add up to the whole reply, and [DONE] ends it."""
    whole = (await client.post(path, json=body)).json()["choices"][0]
    reply = await client.post(path, json={**body, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, done = data_of(reply)
    assert done == "[DONE]"
    parts = [json.loads(chunk)["choices"][0] for chunk in chunks]
    if path == "/v1/completions":
        assert "".join(part["text"] for part in parts) == whole["text"]
    else:
        assert "".join(part["delta"].get("content", "") for part in parts) == whole["message"]["content"]
    assert [part["finish_reason"] for part in parts if part["finish_reason"]] == ["length"]


@pytest.mark.parametrize(
    ("path", "logprobs"),
    [("/v1/completions", {"logprobs": 2}), ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2})],
)
async def test_logprobs_do_not_change_the_rest_of_a_reply(
    client: httpx.AsyncClient, path: str, logprobs: dict[str, Any]
) -> None:
    """A reply with logprobs, which is sent in pieces, is still one JSON text with an entry for each token."""
    body = COMPLETION if path == "/v1/completions" else CHAT
    (plain,) = (await client.post(path, json=body)).json()["choices"]
    reply = await client.post(path, json=body | logprobs)
    assert reply.headers["content-type"] == "application/json"
    (choice,) = reply.json()["choices"]
    told = choice.pop("logprobs")
    assert choice == {name: value for name, value in plain.items() if name != "logprobs"}
    assert len(told["tokens"] if path == "/v1/completions" else told["content"]) == 5


async def test_streamed_usage(client: httpx.AsyncClient) -> None:
    """Usage comes in a separate last chunk if the client asked for it."""
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    last = json.loads(data_of(await client.post("/v1/chat/completions", json=body))[-2])
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("shows_usage", [True, False])
@pytest.mark.parametrize(("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
async def test_streams_are_the_chunks_that_python_callers_get(
    client: httpx.AsyncClient, engine: AsyncMLCEngine, path: str, body: dict[str, Any], shows_usage: bool
) -> None:
    """The server sends the JSON of the same typed chunks, in the same order."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": shows_usage}}
    *sent, _ = data_of(await client.post(path, json=asked))
    endpoint = engine.completions if path == "/v1/completions" else engine.chat.completions
    typed = [chunk.to_json() async for chunk in await endpoint.create(**asked)]

    def without_identity(text: str) -> dict[str, Any]:
        chunk: dict[str, Any] = json.loads(text)
        return {name: value for name, value in chunk.items() if name not in ("id", "created")}

    expected = [without_identity(text) for text in typed]
    if shows_usage:  # the second request finds more of its prompt in the prefix cache
        expected[-1]["usage"]["prompt_tokens_details"] = {"cached_tokens": 0}
    assert [without_identity(text) for text in sent] == expected


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("enable_debug", [False, True])
@pytest.mark.parametrize(("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
async def test_drafts_are_told_by_a_server_that_debugs(
    make_client: MakeClient,
    context: ServerContext,
    path: str,
    body: dict[str, Any],
    enable_debug: bool,
    stream: bool,
) -> None:
    """Only with --enable-debug, and only if the model's engine drafts, the usage has what drafts did."""
    context.add(AsyncMLCEngine.from_loaded(drafting_model("drafting")))
    streaming = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    asked = {**body, "max_tokens": 60, **streaming}
    async with make_client(enable_debug=enable_debug) as client:
        replies = [await client.post(path, json={**asked, "model": name}) for name in ("fake", "drafting")]
    whole = [data_of(reply)[-2] if stream else reply.text for reply in replies]
    plain, drafting = (json.loads(text)["usage"] for text in whole)
    assert "extra" not in plain
    assert ("extra" in drafting) is enable_debug
    if enable_debug:
        extra = drafting["extra"]
        assert 0 < extra["num_accepted_draft_tokens"] <= extra["num_draft_tokens"]
        assert extra["mean_acceptance_length"] > 1
        assert extra["num_accepted_draft_tokens"] + extra["num_spec_steps"] < drafting["completion_tokens"]


async def test_early_errors_of_streams_have_a_status(client: httpx.AsyncClient) -> None:
    """A streaming request that is refused before its first token gets an HTTP status, not an event."""
    reply = await client.post("/v1/completions", json={"prompt": "x" * 2000, "stream": True})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


async def test_death_in_mid_stream_is_an_event(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    """When the engine dies after the first token, the stream says so before it ends."""
    backend.crash_on = set(range(97, 123)) | {32}
    chunk, error, done = data_of(await client.post("/v1/completions", json={"prompt": "?", "stream": True}))
    assert json.loads(chunk)["choices"][0]["text"]
    assert json.loads(error)["error"]["code"] == "engine_dead"
    assert done == "[DONE]"


async def test_a_full_queue_asks_for_patience(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A request without a place gets 429 and Retry-After; the one that has a place is answered."""
    backend = FakeBackend(num_pages=64)
    model = fake_model("small", backend=backend, max_num_sequence=1, max_queued_requests=0)
    context.add(AsyncMLCEngine.from_loaded(model))
    body = {**COMPLETION, "model": "small"}
    backend.gate.clear()
    held = asyncio.create_task(client.post("/v1/completions", json=body))
    await asyncio.to_thread(backend.entered.wait)
    refused = await client.post("/v1/completions", json=body)
    backend.gate.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert (await held).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["first_token_timeout", "request_timeout"])
async def test_a_request_that_takes_too_long_before_it_begins_gets_a_status(
    client: httpx.AsyncClient, context: ServerContext, limit: str, stream: bool
) -> None:
    """Whether it is streamed or not, it gets 504 while the device hangs, and leaves nothing behind."""
    backend = FakeBackend(num_pages=64)
    backend.gate.clear()
    engine = AsyncMLCEngine.from_loaded(fake_model("slow", backend=backend, **{limit: 0.01}))
    context.add(engine)
    reply = await client.post("/v1/completions", json={**COMPLETION, "model": "slow", "stream": stream})
    backend.gate.set()
    assert reply.status_code == 504
    assert reply.json()["error"]["code"].endswith("_timeout")
    assert engine.num_open == 0


@pytest.mark.parametrize(
    ("fields", "status"), [({"n": 3}, 400), ({"n": 2}, 200), ({"prompt": ["a", "b"], "n": 2}, 400)]
)
async def test_choices_are_limited_over_all_prompts(
    client: httpx.AsyncClient, context: ServerContext, fields: dict[str, Any], status: int
) -> None:
    """A request with more choices is refused with the name of the field and the limit."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("strict", max_choices=2)))
    reply = await client.post("/v1/completions", json={**COMPLETION, "model": "strict", **fields})
    assert reply.status_code == status
    if status == 400:
        error = reply.json()["error"]
        assert error["param"] == "n"
        assert "at most 2 choices" in error["message"]


async def test_without_any_place_a_body_is_not_even_read(
    make_client: MakeClient, engine: AsyncMLCEngine
) -> None:
    """The request is refused before any of its body is read."""
    was_read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal was_read
        was_read = True
        yield b"{}"

    headers = {"Content-Type": "application/json"}
    async with make_client() as client:
        with ExitStack() as places:
            while not engine.is_full:
                places.enter_context(engine.reserve(1))
            reply = await client.post("/v1/completions", content=body(), headers=headers)
    assert reply.status_code == 429
    assert not was_read


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {**COMPLETION, "max_tokens": 3, "n": 2}),
        ("/v1/responses", {"input": "Hello", "max_output_tokens": 3}),
    ],
)
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_behind(
    context: ServerContext, engine: AsyncMLCEngine, path: str, fields: dict[str, Any], stream: bool
) -> None:
    """No place stays taken, after however many turns of the event loop the client leaves."""
    app = create_app(context, ServerConfig())
    body = json.dumps({**fields, "stream": stream}).encode()
    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    num_turns = 0
    is_done = False
    while not is_done:
        leave = asyncio.Event()
        messages: list[Message] = [{"type": "http.request", "body": body}]

        async def receive(leave: asyncio.Event = leave, messages: list[Message] = messages) -> Message:
            if not messages:
                await leave.wait()
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(_message: Message) -> None:
            await asyncio.sleep(0)

        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        answering = asyncio.ensure_future(app({**scope, "query_string": b""}, receive, send))
        for _ in range(num_turns):
            await asyncio.sleep(0)
        is_done = answering.done()
        leave.set()
        await answering
        assert engine.num_open == 0
        num_turns += 1 + num_turns // 20


async def test_schema_tells_no_422(make_client: MakeClient) -> None:
    """On every path, the published schema lists only 200 and the statuses of our own errors. The 422 that
    FastAPI adds by itself is never sent, and is not listed.
    """
    async with make_client(enable_debug=True) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    told = {
        status for path in paths.values() for operation in path.values() for status in operation["responses"]
    }
    assert told == {"200", *(str(kind.status) for kind in RequestError.__subclasses__())}


async def test_two_requests_may_share_an_id(client: httpx.AsyncClient) -> None:
    """Replies have different ids even if the clients' X-Request-Id and `user` are the same."""
    sent = {"headers": {"X-Request-Id": "same"}, "json": {**COMPLETION, "user": "same"}}
    ids = {(await client.post("/v1/completions", **sent)).json()["id"] for _ in range(2)}  # type: ignore[arg-type]
    assert len(ids) == 2


async def test_debug_config_needs_debug(make_client: MakeClient) -> None:
    """Without --enable-debug, a debug_config is refused by name; with it, it is honoured."""
    body = {**COMPLETION, "debug_config": {"ignore_eos": True}}
    async with make_client() as client:
        refused = await client.post("/v1/completions", json=body)
    async with make_client(enable_debug=True) as client:
        honoured = await client.post("/v1/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "debug_config"
    assert honoured.status_code == 200


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("completions", {"prompt": 7}, 400, "prompt"),
    ("completions", {"prompt": {"a": 1}}, 400, "prompt"),
    ("completions", {}, 400, "prompt"),
    ("completions", {"model": "gpt-4"}, 404, "model"),
    ("completions", {"prompt": "x", "max_tokens": "5"}, 400, "max_tokens"),
    ("completions", {"prompt": "x", "guided_json": {"not": {}}}, 400, "structured_outputs.json"),
    ("completions", {"prompt": "x" * 2000}, 400, "prompt"),
    ("completions", {"prompt": "x", "temperature": -1}, 400, "temperature"),
    ("completions", {"prompt": "x", "temperature": float("nan")}, 400, "temperature"),
    ("completions", {"prompt": "x", "top_p": float("inf")}, 400, "top_p"),
    ("completions", {"prompt": "x", "n": 0}, 400, "n"),
    ("completions", {"prompt": "x", "n": 10_000}, 400, "n"),
    ("completions", {"prompt": "x", "stop": [5]}, 400, "stop.0"),
    ("completions", {"prompt": "x", "stop": ["a"] * 1000}, 400, "stop"),
    ("completions", {"prompt": "x", "logit_bias": {"260": 1}}, 400, "logit_bias"),
    ("completions", {"prompt": "x", "logit_bias": {"-1": 1}}, 400, "logit_bias"),
    ("completions", {"prompt": [1, 260]}, 400, "prompt"),
    ("completions", {"prompt": [-1]}, 400, "prompt"),
    ("chat/completions", {"messages": []}, 400, "messages"),
    ("chat/completions", {"messages": "hello"}, 400, "messages"),
    ("chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
    ("chat/completions", {"messages": [{"role": "user", "content": 7}]}, 400, "messages.0.content"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x" * 2000}]}, 400, "messages"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD)
async def test_bad_input_is_named(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    """Each bad input is refused with its field's name, and the server goes on serving."""
    if path == "completions" and body.get("model"):
        body = {**body, "prompt": "x"}
    reply = await client.post(
        f"/v1/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    error = reply.json()["error"]
    assert reply.status_code == status
    assert error["param"] == param
    assert param.rsplit(".", maxsplit=1)[-1] in error["message"] or error["code"] == "context_length_exceeded"
    assert error["type"] == "invalid_request_error"
    assert (await client.post("/v1/completions", json=COMPLETION)).status_code == 200


async def test_keys_and_salts_find_their_own_prefixes_only(make_client: MakeClient) -> None:
    """From `cached_tokens`, no client can learn whether another one has sent the same prompt."""
    prompt = {"prompt": "a prompt that is longer than two pages of the cache", "max_tokens": 1}

    async def num_cached(client: httpx.AsyncClient, key: str, **fields: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        reply = await client.post("/v1/completions", json=prompt | fields, headers=headers)
        return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    async with make_client(api_keys=["mine", "yours"]) as client:
        assert await num_cached(client, "mine") == 0
        assert await num_cached(client, "yours") == 0
        assert await num_cached(client, "mine", cache_salt="of one user") == 0
        assert await num_cached(client, "yours", cache_salt="of one user") == 0
        assert await num_cached(client, "mine") == 48
        assert await num_cached(client, "mine", cache_salt="of one user") == 48


@pytest.mark.parametrize(("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
async def test_a_choice_names_the_stop_string_that_ended_it(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    """`stop_reason` is the stop string, streamed or not; a choice that ended otherwise doesn't have it."""
    whole = (await client.post(path, json=body)).json()["choices"][0]
    text = whole["text"] if path == "/v1/completions" else whole["message"]["content"]
    assert "stop_reason" not in whole
    stopped = body | {"stop": ["never", text[-1]]}
    assert (await client.post(path, json=stopped)).json()["choices"][0]["stop_reason"] == text[-1]
    *_, last, _done = data_of(await client.post(path, json=stopped | {"stream": True}))
    assert json.loads(last)["choices"][0]["stop_reason"] == text[-1]
