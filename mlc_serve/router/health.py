"""Health: asks each server, again and again, whether it serves, which models, and how much it has to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from mlc_serve.errors import ServerLostError
from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import RoutedRequest
from mlc_serve.router.reported_requests import requests_in

HEALTH, MODELS, METRICS = "/health", "/v1/models", "/metrics"
# A server that asks for another key serves as well.
_SERVING = frozenset({200, 401})
_MOST_BYTES = 4 * 1024 * 1024

Models = Mapping[str, Mapping[str, Any]]


class HealthWatch:
    """Probes the servers of a fleet every `interval` seconds. An answer may take `timeout` seconds."""

    def __init__(self, fleet: Fleet, interval: float, timeout: float) -> None:
        self._fleet = fleet
        self._interval = interval
        self._timeout = timeout
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start to probe, and return when every server with an address was asked once."""
        await asyncio.gather(*(self.probe(backend) for backend in self._fleet))
        self._tasks = [asyncio.create_task(self._watch(backend)) for backend in self._fleet]

    async def stop(self) -> None:
        """Stop probing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def probe(self, backend: Backend) -> None:
        """Ask a server once, and tell the fleet what came of it."""
        if backend.upstream is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await _require_health(backend)
                models = None if backend.is_up else await _models(backend)
        except (ServerLostError, TimeoutError) as error:
            self._fleet.saw_failure(backend, str(error) or f"no answer within {self._timeout:g} s")
        else:
            self._fleet.saw_success(backend, models)
            await self._ask_for_requests(backend)

    async def _ask_for_requests(self, backend: Backend) -> None:
        """Ask a server how many requests it has. One that doesn't tell has none but this router's."""
        own, reported = backend.num_running, 0
        try:
            async with asyncio.timeout(self._timeout):
                status, metrics = await fetch(backend, METRICS)
        except (ServerLostError, TimeoutError):
            status, metrics = 0, b""
        if status == 200:
            reported = requests_in(metrics)
        # Those that began or ended meanwhile may be among the reported ones, and are then no others.
        self._fleet.saw_requests(backend, reported, max(own, backend.num_running))

    async def _watch(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.probe(backend)


async def _require_health(backend: Backend) -> None:
    """Raise ServerLostError unless a server says that it serves. One that has no /health is asked for its
    models instead.
    """
    status, _ = await fetch(backend, HEALTH)
    if status == 404:
        status, _ = await fetch(backend, MODELS)
    if status not in _SERVING:
        raise ServerLostError(f"its probe was answered with status {status}")


async def _models(backend: Backend) -> Models | None:
    """Return the models that a server lists, or None if it doesn't."""
    status, body = await fetch(backend, MODELS)
    return _listed(body) if status == 200 else None


async def fetch(backend: Backend, path: str) -> tuple[int, bytes]:
    """Return the status and the body of a server's answer to the router's own GET. Raises ServerLostError."""
    return await backend.answer(
        RoutedRequest("GET", path, path.encode(), (), b""), backend.own_key, _MOST_BYTES
    )


def _listed(body: bytes) -> Models | None:
    try:
        entries = json.loads(body)["data"]
        return {str(entry["id"]): entry for entry in entries}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
