"""Many clients that leave: nothing of their requests is left over, in the router or in its servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from tests.e2e.microserver_process import Microserver
from tests.patience import PATIENCE
from tests.router.running_router import RunningRouter, running_router

# Clients of one wave, all of which are there at the same time.
WAVE = 50
LONG: dict[str, Any] = {"max_tokens": 900, "ignore_eos": True, "temperature": 0}


class Site(NamedTuple):
    """A router and its servers."""

    router: RunningRouter
    servers: Sequence[Microserver]

    @property
    def num_routed(self) -> int:
        """How many requests the router has at its servers."""
        return sum(backend.num_running for backend in self.router.router.fleet)

    @property
    def is_idle(self) -> bool:
        """Whether all counters are at zero."""
        return (self.num_routed, self.router.num_busy) == (0, 0) and all(
            server.is_idle for server in self.servers
        )

    def asked(self, number: int) -> asyncio.Task[httpx.Response]:
        """Ask for a long answer to a prompt of its own, every other one as a stream."""
        return asyncio.create_task(
            self.router.client.post("/v1/completions", json=body(number, streams=number % 2 == 0))
        )

    async def leaves_at_the_first_event(self, number: int) -> None:
        """Ask for a stream, and go when it has begun."""
        fields = body(number, streams=True)
        async with self.router.client.stream("POST", "/v1/completions", json=fields) as reply:
            await anext(reply.aiter_lines())


def body(number: int, *, streams: bool) -> dict[str, Any]:
    """A request with a prompt of its own."""
    return {**LONG, "prompt": f"{number}, and then some words more.", "stream": streams}


@pytest.fixture(scope="module")
def servers() -> Iterator[Sequence[Microserver]]:
    """Two server processes."""
    with ExitStack() as stack:
        yield [Microserver(stack) for _ in range(2)]


@asynccontextmanager
async def site(servers: Sequence[Microserver], mode: str) -> AsyncIterator[Site]:
    """A router in this mode in front of the servers, one of which only prefills in mode disagg."""
    urls = [server.url for server in servers]
    config: dict[str, Any] = {"router_mode": mode}
    if mode == "disagg":
        config |= {"prefill_backends": (urls.pop(),), "disagg_min_tokens": 16, "pd_balance_factor": "0"}
    async with running_router(*urls, **config) as router:
        yield Site(router, servers)


async def leave(asked: Sequence[asyncio.Task[httpx.Response]]) -> None:
    """Close the connections of these clients."""
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("mode", ["prefix", "round-robin", "disagg"])
async def test_nothing_is_left_of_300_requests_whose_clients_left(
    servers: Sequence[Microserver], mode: str
) -> None:
    """They leave at once, while they wait or compute, or in mid-stream. Then nothing runs or waits, no page
    is held, and the next request is answered.
    """
    async with site(servers, mode) as own, asyncio.timeout(PATIENCE):
        for start in (0, 3 * WAVE):
            waiting = [own.asked(start + number) for number in range(WAVE)]
            await own.router.until(lambda _: own.num_routed >= WAVE)
            await leave(waiting)
            early = [own.asked(start + WAVE + number) for number in range(WAVE)]
            for task in early:
                await asyncio.sleep(0)
                task.cancel()
            await leave(early)
            streams = range(start + 2 * WAVE, start + 3 * WAVE)
            await asyncio.gather(*map(own.leaves_at_the_first_event, streams))
        while not own.is_idle:
            await own.router.client.get("/health")
        assert (await own.router.chat(max_tokens=4)).status_code == 200
