"""The probes /health and /ready."""

from __future__ import annotations

import asyncio

import httpx

from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend
from tests.patience import PATIENCE
from tests.server.conftest import MakeClient


async def test_healthy(client: httpx.AsyncClient) -> None:
    """An idle server is alive and ready."""
    for path in ("/health", "/ready"):
        reply = await client.get(path)
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


async def test_draining_is_not_ready_but_healthy(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A draining server takes no traffic, but stays healthy so that it is not killed for that."""
    await context.drain(0)
    ready = await client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["the server is shutting down"]
    assert (await client.get("/health")).status_code == 200


async def test_draining_refuses_requests(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A request that arrives during the drain gets a 503 with Retry-After."""
    await context.drain(0)
    reply = await client.post("/v1/completions", json={"prompt": "x"})
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "shutting_down"
    assert "retry-after" in reply.headers


async def test_dead_engine(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    """When the engine's loop dies, the request that it was running fails, and both probes name the model."""
    backend.crash_on = {ord("!")}
    reply = await client.post("/v1/completions", json={"prompt": "a!"})
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "engine_dead"
    for path in ("/health", "/ready"):
        probe = await client.get(path)
        assert probe.status_code == 503
        assert "fake" in probe.json()["reasons"][0]


async def test_stuck_engine(make_client: MakeClient, context: ServerContext, backend: FakeBackend) -> None:
    """An engine that is in one step for longer than the watchdog's time is reported; an idle one is not,
    however short that time is.
    """
    assert not context.sick(watchdog_timeout=0)
    backend.gate.clear()
    async with make_client() as client:
        work = asyncio.create_task(client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}))
        await asyncio.to_thread(backend.entered.wait)
        assert (await client.get("/health")).status_code == 200
        assert not context.sick(watchdog_timeout=PATIENCE)
        assert context.sick(watchdog_timeout=0)
        backend.gate.set()
        assert (await work).status_code == 200
