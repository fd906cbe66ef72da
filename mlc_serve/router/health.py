"""Health: asks each server, again and again, whether it serves, and which models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from mlc_serve.errors import ServerLostError
from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyHead, RoutedRequest
from mlc_serve.router.upstream import Upstream

HEALTH, MODELS = "/health", "/v1/models"
# A server that asks for another key serves as well.
_SERVING = frozenset({200, 401})
_MOST_BYTES = 4 * 1024 * 1024

Models = Mapping[str, Mapping[str, Any]]


class HealthWatch:
    """Probes the servers of a fleet every `interval` seconds. An answer may take `timeout` seconds."""

    def __init__(self, fleet: Fleet, interval: float, timeout: float, api_key: str | None) -> None:
        self._fleet = fleet
        self._interval = interval
        self._timeout = timeout
        self._api_key = api_key
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
        upstream = backend.upstream
        if upstream is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._require_health(upstream)
                models = None if backend.is_up else await self._models(upstream)
        except (ServerLostError, TimeoutError) as error:
            self._fleet.saw_failure(backend, str(error) or f"no answer within {self._timeout:g} s")
        else:
            self._fleet.saw_success(backend, models)

    async def _watch(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.probe(backend)

    async def _require_health(self, upstream: Upstream) -> None:
        """Raise ServerLostError unless a server says that it serves. One that has no /health is asked for its
        models instead.
        """
        status, _ = await self._get(upstream, HEALTH)
        if status == 404:
            status, _ = await self._get(upstream, MODELS)
        if status not in _SERVING:
            raise ServerLostError(f"its probe was answered with status {status}")

    async def _models(self, upstream: Upstream) -> Models | None:
        """Return the models that a server lists, or None if it doesn't."""
        status, body = await self._get(upstream, MODELS)
        return _listed(body) if status == 200 else None

    async def _get(self, upstream: Upstream, path: str) -> tuple[int, bytes]:
        return await fetch(upstream, path, self._api_key)


async def fetch(upstream: Upstream, path: str, api_key: str | None) -> tuple[int, bytes]:
    """Return the status and the body of a server's answer to GET. Raises ServerLostError."""
    request = RoutedRequest("GET", path, path.encode(), (), b"")
    status, parts, num_bytes = 0, [], 0
    async with aclosing(upstream.reply(request, f"router{path.replace('/', '-')}", api_key)) as reply:
        async for part in reply:
            if isinstance(part, ReplyHead):
                status = part.status
                continue
            parts.append(part)
            num_bytes += len(part)
            if num_bytes > _MOST_BYTES:
                raise ServerLostError(f"its answer to {path} is longer than {_MOST_BYTES} bytes")
    return status, b"".join(parts)


def _listed(body: bytes) -> Models | None:
    try:
        entries = json.loads(body)["data"]
        return {str(entry["id"]): entry for entry in entries}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
