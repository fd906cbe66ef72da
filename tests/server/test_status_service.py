"""A supervisor's status service: who may read, who may command, and what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from mlc_serve.server.status_service import StatusService, create_status_app
from mlc_serve.supervisor import MLCServer, MLCServerConfig, MLCServerStatus
from tests.patience import PATIENCE
from tests.supervisor.supervised import config_for, free_port

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
async def server() -> AsyncIterator[MLCServer]:
    """A supervised server that is stopped after the test."""
    async with MLCServer(config_for()) as server:
        yield server


@pytest.fixture
async def client(server: MLCServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server's status service."""
    transport = httpx.ASGITransport(create_status_app(server, "secret"))
    base_url = "http://127.0.0.1"
    async with httpx.AsyncClient(transport=transport, base_url=base_url, timeout=PATIENCE) as client:
        yield client


async def test_status_and_commands(server: MLCServer, client: httpx.AsyncClient) -> None:
    """A client with the token can start, restart and stop; each reply is the status afterwards."""
    assert MLCServerStatus(**(await client.get("/status")).json()).word == "stopped"
    started = (await client.post("/start", headers=TOKEN)).json()
    assert started["process_running"]
    assert (await client.get("/status")).json()["pid"] == started["pid"]
    assert (await client.post("/restart", headers=TOKEN)).json()["pid"] != started["pid"]
    assert not (await client.post("/stop", headers=TOKEN)).json()["process_running"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": b"Bearer \xff"}]
)
@pytest.mark.parametrize("path", ["/start", "/stop", "/restart"])
async def test_commands_need_the_token(
    server: MLCServer, client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    """A command without the token is refused and does nothing."""
    reply = await client.post(path, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert server.get_status().word == "stopped"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:1", True),
        ("https://example.com", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
async def test_pages_on_loopback_may_read(client: httpx.AsyncClient, origin: str, allowed: bool) -> None:
    """Pages served from this machine may read the status; pages of other sites may not."""
    reply = await client.get("/status", headers={"Origin": origin})
    assert reply.headers.get("access-control-allow-origin") == (origin if allowed else None)


async def test_pages_may_not_command(client: httpx.AsyncClient) -> None:
    """A browser's preflight for a command is refused."""
    asking = {"Origin": "http://127.0.0.1:8000", "Access-Control-Request-Method": "POST"}
    assert (await client.options("/stop", headers=asking)).status_code == 400


async def test_names_that_lead_here_by_accident_are_refused(client: httpx.AsyncClient) -> None:
    """A page can't read the status by making its own name resolve to this address."""
    assert (await client.get("/status", headers={"Host": "example.com"})).status_code == 400


async def test_a_failed_start_is_told() -> None:
    """The error's message says what keeps the server from starting."""
    server = MLCServer(MLCServerConfig(command=("/no/such/program",), port=free_port()))
    transport = httpx.ASGITransport(create_status_app(server, "secret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        reply = await client.post("/start", headers=TOKEN)
    assert reply.status_code == 500
    assert "can't run /no/such/program" in reply.json()["error"]["message"]


async def test_every_change_is_an_event(server: MLCServer) -> None:
    """A reader gets the present status, then each new one; the stream ends with the server."""
    service = StatusService(0)
    serving = asyncio.create_task(service.serve(server, "secret"))
    seen: list[str] = []
    events = f"{service.url}/events"
    async with httpx.AsyncClient(timeout=PATIENCE) as client, client.stream("GET", events) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        async for line in reply.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                assert value == "mlc-status-changed"
            if name == "data":
                seen.append(MLCServerStatus(**json.loads(value)).word)
                if len(seen) == 1:
                    await server.start_server()
                if seen[-1] == "serving":
                    await server.close()
    service.stop()
    await serving
    assert seen == ["stopped", "starting", "serving", "stopped"]
