"""/microserving/…, called in-process on two servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.errors import ConfigError
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeServed, fake_model

PROMPT = list(b"The quick brown fox jumps over the lazy dog, twice")
N = len(PROMPT)
BODY = {"prompt": PROMPT, "user": "u", "max_tokens": 8, "temperature": 0}


class Peer(NamedTuple):
    """A server that is called in-process."""

    client: httpx.AsyncClient
    app: FastAPI
    engine: AsyncMLCEngine

    async def call(self, name: str, **fields: Any) -> httpx.Response:
        """Make one of the calls."""
        return await self.client.post(f"/microserving/{name}", json=BODY | fields)

    async def prepared(self, end: int = -1, **fields: Any) -> dict[str, Any]:
        """Call prep_recv, which must succeed, and return its reply."""
        reply = await self.call("prep_recv", end=end, **fields)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())


@asynccontextmanager
async def peer(headers: dict[str, str] | None = None, **config: Any) -> AsyncIterator[Peer]:
    """A server on a fake model."""
    context = ServerContext()
    engine = AsyncMLCEngine.from_loaded(fake_model())
    context.add(engine)
    app = create_app(context, ServerConfig(**config))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client,
    ):
        yield Peer(client, app, engine)
    context.close()


@pytest.fixture
async def peers() -> AsyncIterator[tuple[Peer, Peer]]:
    """A server that computes prompts, and one that generates."""
    async with AsyncExitStack() as stack:
        prefill, decode = [await stack.enter_async_context(peer()) for _ in range(2)]
        yield prefill, decode


async def sent(prefill: Peer, prepared: dict[str, Any], end: int = -1, **fields: Any) -> httpx.Response:
    """Call remote_send as MLC's router does."""
    return await prefill.call(
        "remote_send",
        begin=prepared["prefix_matched_length"],
        end=end,
        kv_addr_info=prepared["kv_append_metadata"],
        recv_rank=1,
        **fields,
    )


@pytest.mark.parametrize("end", [-1, N // 2])
async def test_the_three_calls(peers: tuple[Peer, Peer], end: int) -> None:
    """They answer in MLC's form, and the completion is that of one server."""
    prefill, decode = peers
    expected = (await prefill.client.post("/v1/completions", json=BODY)).json()
    prepared = await decode.prepared(end)
    assert prepared.keys() == {"kv_append_metadata", "prefix_matched_length"}
    reply = await sent(prefill, prepared, end)
    assert (reply.status_code, reply.json()) == (200, {})
    completion = (await decode.call("start_generate", begin=end)).json()
    assert completion["choices"] == expected["choices"]
    assert completion["object"] == "text_completion"
    assert completion["id"].startswith("cmpl-")
    assert "extra" not in completion["usage"]


async def test_a_stream(peers: tuple[Peer, Peer]) -> None:
    """start_generate streams as completions do, with usage only if it was asked for."""
    prefill, decode = peers
    expected = (await prefill.client.post("/v1/completions", json=BODY)).json()["choices"][0]["text"]
    await sent(prefill, await decode.prepared(stream=True), stream=True)
    reply = await decode.call("start_generate", begin=-1, stream=True)
    events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected
    assert not any(chunk.get("usage") for chunk in chunks)


@pytest.mark.parametrize("streams", [False, True])
async def test_usage_tells_where_the_prompt_came_from(streams: bool) -> None:
    """With --enable-debug, usage.extra says how many tokens were matched, transferred and recomputed; the
    metrics always do.
    """
    stream = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
    async with peer() as prefill, peer(enable_debug=True) as decode:
        await decode.client.post("/v1/completions", json=BODY | {"prompt": PROMPT[:13]})
        await sent(prefill, await decode.prepared())
        reply = await decode.call("start_generate", begin=-1, **stream)
        usage = json.loads(reply.text.split("\n\n")[-3][6:])["usage"] if streams else reply.json()["usage"]
        assert usage["extra"] == {"matched_tokens": 12, "transferred_tokens": 36, "recomputed_tokens": 2}
        metrics = (await decode.client.get("/metrics")).text
        assert 'prompt_tokens_total{model="fake",source="transferred"} 36.0' in metrics


async def test_a_chat_finds_what_was_received(peers: tuple[Peer, Peer]) -> None:
    """A router can move the prefix of a chat, and then send the chat itself."""
    prefill, decode = peers
    chat = {"messages": [{"role": "user", "content": "x" * 40}], "max_tokens": 2}
    tokens = (await decode.client.post("/tokenize", json=chat)).json()["tokens"]
    await sent(prefill, await decode.prepared(prompt=tokens), prompt=tokens)
    usage = (await decode.client.post("/v1/chat/completions", json=chat)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == (len(tokens) - 1) // 4 * 4


@pytest.mark.parametrize(
    ("name", "fields", "status", "param"),
    [
        ("prep_recv", {"end": N}, 400, "end"),
        ("prep_recv", {"end": -N - 1}, 400, "end"),
        ("prep_recv", {}, 400, "end"),
        ("prep_recv", {"end": 1, "user": None}, 400, "user"),
        ("prep_recv", {"end": 1, "user": ""}, 400, "user"),
        ("prep_recv", {"end": 1, "prompt": [PROMPT, PROMPT]}, 400, "prompt"),
        ("prep_recv", {"end": 1, "model": "nobody"}, 404, "model"),
        ("prep_recv", {"end": 1, "debug_config": {}}, 400, "debug_config"),
        ("remote_send", {"begin": 0, "end": 8, "kv_addr_info": "WzBd"}, 400, "kv_addr_info"),
        ("start_generate", {"begin": N}, 400, "begin"),
        ("start_generate", {"begin": 8}, 404, "user"),
        ("abort", {"user": None}, 400, "user"),
    ],
)
async def test_refusals(name: str, fields: dict[str, Any], status: int, param: str) -> None:
    """Each says which field is wrong, in OpenAI's form."""
    async with peer() as server:
        reply = await server.call(name, **fields)
        assert (reply.status_code, reply.json()["error"]["param"]) == (status, param), reply.text


async def test_statuses_of_a_parked_request(peers: tuple[Peer, Peer]) -> None:
    """409 before the prefix is there and after the start, 410 once it is aborted."""
    prefill, decode = peers
    prepared = await decode.prepared()
    assert (await decode.call("start_generate", begin=-1)).status_code == 409
    assert (await decode.client.post("/microserving/abort", json={"user": "u"})).json() == {"aborted": True}
    assert (await decode.client.post("/microserving/abort", json={"user": "u"})).json() == {"aborted": False}
    assert (await decode.call("start_generate", begin=-1)).status_code == 410
    assert (await sent(prefill, prepared)).status_code == 410
    await sent(prefill, await decode.prepared())
    assert (await decode.call("start_generate", begin=-1)).status_code == 200
    assert (await decode.call("start_generate", begin=-1)).status_code == 409


async def test_there_is_time_to_retry(peers: tuple[Peer, Peer]) -> None:
    """If the receiver can't be reached, the sender answers 503 with Retry-After."""
    prefill, decode = peers
    prepared = await decode.prepared()
    await decode.app.state.serving.kv_port.close()
    reply = await sent(prefill, prepared)
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "kv_transfer_failed"
    assert int(reply.headers["retry-after"]) > 0


async def test_keys_keep_requests_apart() -> None:
    """The calls need a key, and one with another key finds neither the request nor its prefix."""
    keys = {"api_keys": ["one", "two"]}
    other = {"Authorization": "Bearer two"}
    async with peer({"Authorization": "Bearer one"}, **keys) as decode, peer() as prefill:
        assert (await sent(prefill, await decode.prepared())).status_code == 200
        for headers, status in (({"Authorization": "Bearer three"}, 401), (other, 404)):
            body = BODY | {"begin": -1}
            reply = await decode.client.post("/microserving/start_generate", json=body, headers=headers)
            assert reply.status_code == status
        reply = await decode.client.post("/v1/completions", json=BODY, headers=other)
        assert reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert (await decode.call("start_generate", begin=-1)).status_code == 200


async def test_a_server_that_drains_sends_what_it_has(peers: tuple[Peer, Peer]) -> None:
    """It still tells what is cached, and sends that, but computes nothing."""
    prefill, decode = peers
    await prefill.engine.completions.create(prompt=PROMPT[:41], max_tokens=1)
    await prefill.app.state.serving.context.drain(0)
    matched = await prefill.call("match")
    assert (matched.status_code, matched.json()) == (200, {"prefix_matched_length": 40})
    assert (await sent(prefill, await decode.prepared(40), 40)).status_code == 200
    assert (await decode.call("match")).json() == {"prefix_matched_length": 40}
    other: dict[str, Any] = {"prompt": PROMPT[::-1], "user": "v"}
    reply = await sent(prefill, await decode.prepared(**other), **other)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")


async def test_a_server_that_drains_takes_no_calls(peers: tuple[Peer, Peer]) -> None:
    """It ends what is parked, and refuses new calls with 503."""
    _, decode = peers
    await decode.prepared()
    await decode.app.state.serving.context.drain(0)
    assert (await decode.call("prep_recv", end=-1)).status_code == 503
    assert decode.engine.num_open == 0


async def test_models_that_generate_nothing_have_no_calls() -> None:
    """A model that answers no completions refuses the calls by name."""
    context = ServerContext()
    context.add(FakeServed())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(context, ServerConfig())), base_url="http://localhost"
    ) as client:
        reply = await client.post("/microserving/prep_recv", json=BODY | {"end": 1})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_address_for_prefixes_is_one_that_others_can_use(host: str) -> None:
    """Senders are told this address, so that it can't stand for all of them."""
    with pytest.raises(ConfigError, match="kv_transfer_host"):
        ServerConfig(kv_transfer_host=host)
