"""A router on a real socket, on the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mlc_serve.config import RouterConfig, ServerConfig
from mlc_serve.host.server_socket import bind_socket
from mlc_serve.router.address import Address
from mlc_serve.router.backend import Backend
from mlc_serve.router.router import Router
from mlc_serve.router.upstream import Upstream
from mlc_serve.server.router_service import RouterService
from tests.patience import PATIENCE


class RunningRouter:
    """A router, its service, and a client of it."""

    def __init__(self, router: Router, service: RouterService, client: httpx.AsyncClient) -> None:
        self.router = router
        self.service = service
        self.client = client

    async def chat(self, content: str = "Hello", **fields: Any) -> httpx.Response:
        """The whole reply to a chat with one message."""
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    async def until(self, condition: Callable[[Router], object]) -> None:
        """Ask the router until a condition holds, which its probes or the ends of requests bring about."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self.router):
                await self.client.get("/health")

    @property
    def num_busy(self) -> int:
        """How many connections to servers carry a request."""
        return sum(backend.upstream.num_busy for backend in self.router.fleet if backend.upstream)


def backends_at(urls: Sequence[str], api_key: str | None, *, prefills: bool) -> list[Backend]:
    """The servers at these addresses, as a fleet knows them."""
    addresses = [Address.of(url) for url in urls]
    return [
        Backend(f"{address.netloc}{address.prefix}", Upstream(address), api_key, api_key, prefills=prefills)
        for address in addresses
    ]


@asynccontextmanager
async def running_router(
    *urls: str,
    router_type: type[Router] = Router,
    server: ServerConfig | None = None,
    headers: dict[str, str] | None = None,
    **config: Any,
) -> AsyncIterator[RunningRouter]:
    """A router in front of the servers at these addresses. Other keywords are fields of RouterConfig."""
    quick = {"poll_interval": 0.02, "poll_timeout": PATIENCE, "backends": urls, **config}
    settings = RouterConfig(**quick)
    server = server or ServerConfig(port=0, shutdown_timeout=0)
    key = settings.backend_api_key
    backends = [
        *backends_at(settings.prefill_backends, key, prefills=True),
        *backends_at(urls, key, prefills=False),
    ]
    router = router_type(backends, settings, server)
    sock = bind_socket("127.0.0.1", 0)
    service = RouterService(router, server, sock)
    serving = asyncio.create_task(service.serve())
    client = httpx.AsyncClient(base_url=service.url, timeout=PATIENCE, headers=headers, trust_env=False)
    try:
        async with client:
            await client.get("/health")
            yield RunningRouter(router, service, client)
    finally:
        await service.stop()
        await serving
        sock.close()
