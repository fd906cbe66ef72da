"""POST /debug/…"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model
from tests.drafting import drafting_model
from tests.server.conftest import MakeClient


@pytest.fixture
async def debugger(make_client: MakeClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with --enable-debug."""
    async with make_client(enable_debug=True) as client:
        yield client


async def test_metrics(debugger: httpx.AsyncClient) -> None:
    """The metrics of the only engine are returned whether or not the request names it."""
    await debugger.post("/v1/completions", json={"prompt": "x", "max_tokens": 2, "ignore_eos": True})
    for body in ({}, {"model": "fake"}):
        reply = await debugger.post("/debug/dump_engine_metrics", json=body)
        assert reply.json()["metrics"]["completion_tokens_sum"] == 2


async def test_reset(debugger: httpx.AsyncClient, backend: FakeBackend) -> None:
    """A reset empties the KV cache, prefix cache included, and the engine goes on."""
    await debugger.post("/v1/completions", json={"prompt": "x" * 100, "max_tokens": 2})
    assert backend.state.num_free_pages < backend.state.num_pages
    reply = await debugger.post("/debug/reset_engine", json={"model": "fake"})
    assert (reply.status_code, reply.json()) == (200, None)
    assert backend.state.num_free_pages == backend.state.num_pages
    assert (await debugger.post("/v1/completions", json={"prompt": "x", "max_tokens": 2})).status_code == 200


async def test_no_trace_without_tracing(debugger: httpx.AsyncClient) -> None:
    """An empty trace would look like an idle server, so it is an error instead."""
    reply = await debugger.post("/debug/dump_event_trace", json={"model": "fake"})
    assert reply.status_code == 400
    assert "--enable-tracing" in reply.json()["error"]["message"]


async def test_trace(debugger: httpx.AsyncClient, context: ServerContext) -> None:
    """With tracing, the reply is a list of events in the format of Chrome's trace viewer."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("traced"), enable_tracing=True))
    await debugger.post("/v1/completions", json={"model": "traced", "prompt": "x", "max_tokens": 2})
    events = (await debugger.post("/debug/dump_event_trace", json={"model": "traced"})).json()
    assert events
    assert all({"name", "ph", "ts", "pid", "tid"} <= event.keys() for event in events)


@pytest.mark.parametrize("path", ["dump_event_trace", "reset_engine"])
@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"model": "x"}', 404)]
)
async def test_bad_bodies(debugger: httpx.AsyncClient, path: str, body: bytes, status: int) -> None:
    """Malformed JSON, a body that is no object and a missing model get 400; an unknown model gets 404."""
    reply = await debugger.post(f"/debug/{path}", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("verb", ["start", "stop"])
async def test_cuda_profiler_without_cuda(debugger: httpx.AsyncClient, verb: str) -> None:
    """On a device without CUDA there is nothing to profile, and the reply says so."""
    reply = await debugger.post(f"/debug/cuda_profiler_{verb}")
    assert reply.status_code == 400
    assert "CUDA" in reply.json()["error"]["message"]


async def test_drafts_are_among_the_metrics(debugger: httpx.AsyncClient, context: ServerContext) -> None:
    """The counts by place are lists, as in MLC-LLM; an engine that has drafted nothing leaves them out."""
    context.add(AsyncMLCEngine.from_loaded(drafting_model("drafting")))
    for model in ("fake", "drafting"):
        body = {"model": model, "prompt": "x", "max_tokens": 60, "ignore_eos": True}
        await debugger.post("/v1/completions", json=body)
    replies = [
        (await debugger.post("/debug/dump_engine_metrics", json={"model": model})).json()["metrics"]
        for model in ("fake", "drafting")
    ]
    assert "spec_decode" not in replies[0]
    drafts = replies[1]["spec_decode"]
    assert drafts["accept_count"][0] == drafts["draft_count"][0] > 0
    assert drafts["accept_prob"]["accept_prob{step=0}"] == 1
