"""A server without a socket: the real application on a fake model, and clients that call it in-process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model

MakeClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def backend() -> FakeBackend:
    """The device that the fake model runs on."""
    return FakeBackend(num_pages=256)


@pytest.fixture
async def engine(backend: FakeBackend) -> AsyncIterator[AsyncMLCEngine]:
    """An engine on the fake model, whose name is fake."""
    running = AsyncMLCEngine.from_loaded(fake_model(backend=backend))
    yield running
    backend.gate.set()
    running.terminate()


@pytest.fixture
async def context(engine: AsyncMLCEngine, backend: FakeBackend) -> AsyncIterator[ServerContext]:
    """A context that serves one model named fake."""
    serving = ServerContext()
    serving.add(engine)
    yield serving
    backend.gate.set()
    serving.close()


@pytest.fixture
def make_client(context: ServerContext) -> MakeClient:
    """Clients of the context's server under any ServerConfig."""

    @asynccontextmanager
    async def make(headers: dict[str, str] | None = None, **config: Any) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(create_app(context, ServerConfig(**config)))
        url = "http://localhost"
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
            yield client

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with default settings."""
    async with make_client() as plain:
        yield plain
